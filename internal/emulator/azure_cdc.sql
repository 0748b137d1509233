-- The catalog side of Microsoft's closed extension azure_cdc, as far as it is
-- documented (concepts-fabric-mirroring). Every function judges the real catalog
-- for current_user.
--
-- CREATE EXTENSION wants a control file in the server's share directory, which
-- belongs to the machine and may not be ours to write. So the row of pg_extension
-- is written as a superuser with allow_system_table_mods, and the objects are
-- made members of it with ALTER EXTENSION, which looks at the catalog alone.
SET allow_system_table_mods = on;

DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'azure_cdc_admin') THEN
    CREATE ROLE azure_cdc_admin NOLOGIN;
  END IF;
  GRANT azure_cdc_admin TO azure_pg_admin WITH ADMIN OPTION;
END $$;

CREATE SCHEMA IF NOT EXISTS azure_cdc;
GRANT USAGE ON SCHEMA azure_cdc TO PUBLIC;

INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
SELECT pg_nextoid('pg_catalog.pg_extension', 'oid', 'pg_catalog.pg_extension_oid_index'), 'azure_cdc',
       (SELECT oid FROM pg_roles WHERE rolname = current_user), 'azure_cdc'::regnamespace, false, '1.0'
WHERE NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'azure_cdc');

CREATE TABLE IF NOT EXISTS azure_cdc.publications (
  publication_id oid PRIMARY KEY,
  publication_name text NOT NULL,
  destination_path text NOT NULL,
  active boolean NOT NULL,
  snapshot_done boolean NOT NULL,
  generation_id bigint NOT NULL,
  stream_start_lsn pg_lsn,
  stream_start_time timestamptz,
  stream_stop_lsn pg_lsn
);
CREATE TABLE IF NOT EXISTS azure_cdc.errors (
  error_time timestamptz NOT NULL DEFAULT now(),
  publication_name text NOT NULL DEFAULT '',
  schema_name text, table_name text,
  error_type text NOT NULL CHECK (error_type IN ('S', 'P', 'T')),
  error_code text NOT NULL,
  params jsonb NOT NULL DEFAULT '{}'
);

CREATE OR REPLACE VIEW azure_cdc.tracked_publications AS
  SELECT publication_id, destination_path, 'PARQUET'::text AS destination_format, true AS include_data, true AS include_changes, active,
         snapshot_done, CASE WHEN snapshot_done THEN 100 ELSE 0 END::smallint AS snapshot_progress,
         CASE WHEN snapshot_done THEN '100%' ELSE '0%' END AS snapshot_progress_percentage,
         generation_id, stream_start_lsn, stream_start_time, stream_stop_lsn, NULL::bigint AS snapshot_size, NULL::interval AS total_time
  FROM azure_cdc.publications;
CREATE OR REPLACE VIEW azure_cdc.tracked_tables AS
  SELECT p.publication_id, r.prrelid AS table_oid, row_number() OVER (PARTITION BY p.publication_id ORDER BY r.prrelid) AS sequence_number
  FROM azure_cdc.publications p JOIN pg_publication_rel r ON r.prpubid = p.publication_id;
GRANT SELECT ON azure_cdc.tracked_publications, azure_cdc.tracked_tables TO azure_cdc_admin;

CREATE OR REPLACE FUNCTION azure_cdc.active_publications() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS
  'SELECT count(*) FROM azure_cdc.publications WHERE active';

CREATE OR REPLACE FUNCTION azure_cdc.check_prerequisites(OUT status text, OUT data jsonb)
LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
  WITH found(status_code, current_value, required_value) AS (
    SELECT 'IDENTITY_NOT_CONFIGURED', '', 'system-assigned managed identity'
     WHERE coalesce(current_setting('azure.service_principal_id', true), '') = ''
    UNION ALL SELECT 'CDC_ADMIN_ROLE_NOT_EXISTS', '', 'azure_cdc_admin'
     WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'azure_cdc_admin')
    UNION ALL SELECT 'USER_NOT_CDC_ADMIN', current_user::text, 'member of azure_cdc_admin'
     WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'azure_cdc_admin' AND pg_has_role(current_user, oid, 'MEMBER'))
    UNION ALL SELECT 'NO_CREATE_PRIVILEGE_ON_DATABASE', current_user::text, 'CREATE on database ' || current_database()
     WHERE NOT has_database_privilege(current_user, current_database(), 'CREATE')
    UNION ALL SELECT 'PUBLICATION_LIMIT_REACHED', azure_cdc.active_publications()::text, '0'
     WHERE azure_cdc.active_publications() > 0
    UNION ALL SELECT 'SERVER_IN_RECOVERY', 'true', 'false' WHERE pg_is_in_recovery()
    UNION ALL SELECT 'MAX_WORKER_PROCESSES_TOO_LOW', current_setting('max_worker_processes'), '13'
     WHERE current_setting('max_worker_processes')::int < 13
  )
  SELECT CASE WHEN EXISTS (SELECT FROM found) THEN 'ERROR' ELSE 'OK' END,
         coalesce((SELECT jsonb_agg(jsonb_build_object('status', 'ERROR', 'status_code', status_code,
           'details', jsonb_build_object('current_value', current_value, 'required_value', required_value))) FROM found), '[]')
$$;

-- table_findings is one line a finding. Whether an unsupported type is a warning
-- or an error differs between Microsoft's pages: the strict one is taken.
CREATE OR REPLACE FUNCTION azure_cdc.table_findings()
RETURNS TABLE (table_schema name, table_name name, status text, status_code text, details jsonb)
LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
  WITH tables AS (
    SELECT c.oid, n.nspname, c.relname, c.relkind, c.relowner, c.relpersistence, c.relispartition
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'azure_cdc')
  ), columns AS (
    SELECT t.oid, a.attname, a.attnum, a.attnotnull,
           CASE WHEN y.typtype = 'b' AND y.typcategory <> 'A' THEN y.typname ELSE '' END AS typname, format_type(a.atttypid, a.atttypmod) AS shown
    FROM tables t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped JOIN pg_type y ON y.oid = a.atttypid
    WHERE t.relkind = 'r'
  ), keys AS (
    SELECT DISTINCT ON (i.indrelid) i.indrelid, i.indisprimary, i.indkey
    FROM pg_index i JOIN tables t ON t.oid = i.indrelid AND t.relkind = 'r'
    WHERE i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
      AND NOT EXISTS (SELECT FROM columns k WHERE k.oid = i.indrelid AND k.attnum = ANY (i.indkey) AND NOT k.attnotnull)
    ORDER BY i.indrelid, i.indisprimary DESC, i.indexrelid
  )
  SELECT nspname, relname, 'ERROR', 'NOT_REGULAR_TABLE', jsonb_build_object('message', format('Table %s.%s is not a regular table', nspname, relname))
  FROM tables WHERE relkind <> 'r' OR relpersistence <> 'p' OR relispartition
  UNION ALL
  SELECT nspname, relname, 'ERROR', 'NOT_TABLE_OWNER', jsonb_build_object('message', format('Table %s.%s is not owned by %s', nspname, relname, current_user))
  FROM tables WHERE relkind = 'r' AND pg_get_userbyid(relowner) <> current_user
  UNION ALL
  SELECT nspname, relname, 'ERROR', 'FORBIDDEN_CHARS_IN_TABLE_NAME',
         jsonb_build_object('message', format('Table %s.%s contains forbidden characters in name', nspname, relname))
  FROM tables WHERE relname ~ '[ ,;{}()\n\t=]' OR nspname ~ '[ ,;{}()\n\t=]'
  UNION ALL
  SELECT nspname, relname, 'ERROR', 'FORBIDDEN_CHARS_IN_COLUMN_NAME', jsonb_build_object('columns', jsonb_agg(attname ORDER BY attnum),
         'message', format('Table %s.%s contains forbidden characters in name of columns %s', nspname, relname, string_agg(attname, ', ' ORDER BY attnum)))
  FROM tables JOIN columns USING (oid) WHERE attname ~ '[ ,;{}()\n\t=]' GROUP BY nspname, relname
  UNION ALL
  SELECT nspname, relname, 'ERROR', 'UNSUPPORTED_DATA_TYPE', jsonb_build_object('columns', jsonb_agg(attname ORDER BY attnum), 'types', jsonb_agg(shown ORDER BY attnum),
         'message', format('Table %s.%s has unsupported data type in column %s', nspname, relname, string_agg(attname, ', ' ORDER BY attnum)))
  FROM tables JOIN columns USING (oid)
  WHERE typname NOT IN ('int8', 'int4', 'int2', 'bool', 'bytea', 'bpchar', 'varchar', 'date', 'float8', 'float4', 'numeric', 'oid', 'money', 'text',
                        'time', 'timetz', 'timestamp', 'timestamptz', 'uuid')
  GROUP BY nspname, relname
  UNION ALL
  SELECT nspname, relname, 'ERROR', 'UNSUPPORTED_TYPE_IN_REPLICA_IDENTITY', jsonb_build_object('columns', jsonb_agg(attname ORDER BY attnum),
         'message', format('Table %s.%s has an unsupported type in its replica identity', nspname, relname))
  FROM tables JOIN columns USING (oid) JOIN keys ON indrelid = oid AND attnum = ANY (indkey) WHERE typname = 'timetz' GROUP BY nspname, relname
  UNION ALL
  SELECT nspname, relname, CASE WHEN indrelid IS NULL THEN 'WARNING' ELSE 'OK' END,
         CASE WHEN indisprimary THEN 'HAS_PRIMARY_KEY' WHEN indrelid IS NOT NULL THEN 'HAS_UNIQUE_INDEX' ELSE 'NO_INDEX_FULL_IDENTITY' END,
         jsonb_build_object('message', format(CASE WHEN indisprimary THEN 'Table %s.%s has a primary key'
           WHEN indrelid IS NOT NULL THEN 'Table %s.%s has a suitable unique index'
           ELSE 'Table %s.%s does not have a suitable unique index. Using full identity' END, nspname, relname))
  FROM tables LEFT JOIN keys ON indrelid = oid WHERE relkind = 'r'
$$;

CREATE OR REPLACE FUNCTION azure_cdc.get_all_tables_mirror_status()
RETURNS TABLE (table_schema text, table_name text, mirroring_status text, mirroring_data jsonb)
LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
  SELECT f.table_schema, f.table_name,
         CASE WHEN bool_or(f.status = 'ERROR') THEN 'ERROR' WHEN bool_or(f.status = 'WARNING') THEN 'WARNING' ELSE 'OK' END,
         jsonb_agg(jsonb_build_object('status', f.status, 'status_code', f.status_code, 'details', f.details) ORDER BY f.status_code)
  FROM azure_cdc.table_findings() f GROUP BY 1, 2 ORDER BY 1, 2
$$;

CREATE OR REPLACE FUNCTION azure_cdc.is_table_mirrorable(table_schema text, table_name text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
  SELECT coalesce((SELECT s.mirroring_status <> 'ERROR' FROM azure_cdc.get_all_tables_mirror_status() s
                   WHERE s.table_schema = $1 AND s.table_name = $2), false)
$$;

CREATE OR REPLACE FUNCTION azure_cdc.get_health_status(db_name text, pub_name text)
RETURNS TABLE (error_time timestamptz, schema_name text, table_name text, error_type text, error_code text, params jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
  SELECT e.error_time, e.schema_name, e.table_name, e.error_type, e.error_code, e.params FROM azure_cdc.errors e
  WHERE e.error_type = 'S' OR (db_name = current_database() AND e.publication_name = pub_name) ORDER BY 1
$$;

CREATE OR REPLACE FUNCTION azure_cdc.list_tracked_publications()
RETURNS TABLE ("publicationName" text, "includeData" boolean, "includeChanges" boolean, active boolean, "baseSnapshotDone" boolean, "generationId" bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS
  'SELECT publication_name, true, true, p.active, snapshot_done, generation_id FROM azure_cdc.publications p ORDER BY 1';

CREATE OR REPLACE FUNCTION azure_cdc.publication_status(pub text)
RETURNS TABLE (active boolean, snapshot_done boolean, start_lsn pg_lsn, stop_lsn pg_lsn, flush_lsn pg_lsn)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
  SELECT p.active, p.snapshot_done, p.stream_start_lsn, p.stream_stop_lsn, s.confirmed_flush_lsn
  FROM azure_cdc.publications p LEFT JOIN pg_replication_slots s ON s.slot_name = p.publication_name WHERE p.publication_name = pub
$$;

-- stop_publication is for what a deleted workspace left behind: it ends the
-- reader, and drops slot and publication.
CREATE OR REPLACE FUNCTION azure_cdc.stop_publication(pub text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM azure_cdc.publications WHERE publication_name = pub) THEN
    RAISE EXCEPTION 'publication "%" is not tracked', pub USING ERRCODE = 'undefined_object';
  END IF;
  PERFORM pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = pub AND active;
  PERFORM pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = pub;
  EXECUTE format('DROP PUBLICATION IF EXISTS %I', pub);
  DELETE FROM azure_cdc.publications WHERE publication_name = pub;
  DELETE FROM azure_cdc.errors WHERE publication_name = pub;
END $$;

REVOKE EXECUTE ON FUNCTION azure_cdc.stop_publication(text), azure_cdc.get_health_status(text, text), azure_cdc.list_tracked_publications(), azure_cdc.publication_status(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION azure_cdc.stop_publication(text), azure_cdc.get_health_status(text, text), azure_cdc.list_tracked_publications(), azure_cdc.publication_status(text) TO azure_cdc_admin;

-- The objects become members of the extension, once.
DO $$
DECLARE member record; ext oid := (SELECT oid FROM pg_extension WHERE extname = 'azure_cdc');
BEGIN
  FOR member IN
    SELECT 'pg_proc'::regclass AS class, p.oid, format('FUNCTION %s', p.oid::regprocedure) AS what FROM pg_proc p WHERE pronamespace = 'azure_cdc'::regnamespace
    UNION ALL SELECT 'pg_class'::regclass, c.oid, format('%s %s', CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, c.oid::regclass)
      FROM pg_class c WHERE relnamespace = 'azure_cdc'::regnamespace AND relkind IN ('r', 'v')
  LOOP
    IF NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = member.class AND d.objid = member.oid AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = ext AND d.deptype = 'e') THEN
      EXECUTE format('ALTER EXTENSION azure_cdc ADD %s', member.what);
    END IF;
  END LOOP;
END $$;
RESET allow_system_table_mods;
