-- What a new flexible server holds: the administrators' role, the administrator,
-- and the database postgres, which the administrators own. On 16 and later the
-- administrator is no superuser, as on Azure. Before 16 only a superuser may
-- make a role with REPLICATION, which Azure permits by a patch of its own: there
-- it has to be one.
DO $$
DECLARE
  admin text := current_setting('emulator.admin');
  secret text := current_setting('emulator.password');
  modern boolean := current_setting('server_version_num')::int >= 160000;
  given text;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'azure_pg_admin') THEN
    CREATE ROLE azure_pg_admin NOLOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = admin) THEN
    EXECUTE format('CREATE ROLE %I', admin);
  END IF;
  EXECUTE format('ALTER ROLE %I LOGIN CREATEROLE CREATEDB REPLICATION BYPASSRLS INHERIT %s PASSWORD %L',
    admin, CASE WHEN modern THEN 'NOSUPERUSER' ELSE 'SUPERUSER' END, secret);
  FOREACH given IN ARRAY ARRAY['pg_monitor', 'pg_signal_backend', 'pg_read_all_settings', 'pg_read_all_stats', 'pg_stat_scan_tables',
      'pg_checkpoint', 'pg_create_subscription', 'pg_use_reserved_connections', 'pg_maintain'] LOOP
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = given) THEN
      EXECUTE format('GRANT %I TO azure_pg_admin WITH ADMIN OPTION', given);
    END IF;
  END LOOP;
  EXECUTE format('GRANT azure_pg_admin TO %I WITH ADMIN OPTION', admin);
END $$;
ALTER DATABASE postgres OWNER TO azure_pg_admin;

-- azure_roles_authtype tells how a role's password is kept.
SET LOCAL allow_system_table_mods = on;
CREATE OR REPLACE FUNCTION pg_catalog.azure_roles_authtype(OUT rolename name, OUT authtype text) RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
  SELECT rolname, CASE WHEN NOT rolcanlogin THEN 'NOLOGIN' WHEN rolpassword LIKE 'md5%' THEN 'MD5'
    WHEN rolpassword LIKE 'SCRAM-SHA-256$%' THEN 'SCRAM-SHA-256' ELSE 'NOLOGIN' END
  FROM pg_authid WHERE rolname !~ '^pg_' ORDER BY 1
$$;
RESET allow_system_table_mods;
