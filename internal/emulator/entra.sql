-- The extension pgaadauth, which Azure has in the database postgres alone: roles
-- that stand for somebody in Entra. A label is written as it is stored: the
-- provider that SECURITY LABEL would ask is code of Azure's.
SET LOCAL allow_system_table_mods = on;

CREATE OR REPLACE FUNCTION pg_catalog.emulator_entra_label(role name, object_id text, kind text, ismfa boolean, isadmin boolean) RETURNS void
LANGUAGE sql SET search_path = pg_catalog SET allow_system_table_mods = on AS $$
  DELETE FROM pg_shseclabel l USING pg_authid r WHERE l.objoid = r.oid AND l.classoid = 'pg_authid'::regclass AND l.provider = 'pgaadauth' AND r.rolname = $1;
  INSERT INTO pg_shseclabel (objoid, classoid, provider, label)
  SELECT r.oid, 'pg_authid'::regclass, 'pgaadauth', concat('aadauth,oid=', $2, ',type=', $3, CASE WHEN $4 THEN ',mfa' END, CASE WHEN $5 THEN ',admin' END)
  FROM pg_authid r WHERE r.rolname = $1
$$;
REVOKE EXECUTE ON FUNCTION pg_catalog.emulator_entra_label FROM PUBLIC;

-- An administrator is what pgadmin is. Without a verifier nobody here has its
-- token. False: the name is somebody else's.
CREATE OR REPLACE FUNCTION pg_catalog.emulator_put_administrator(name text, object_id text, kind text, verifier text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
  modern boolean := current_setting('server_version_num')::int >= 160000;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
    EXECUTE format('CREATE ROLE %I', name);
  ELSIF NOT EXISTS (SELECT FROM pg_shseclabel l JOIN pg_roles r ON r.oid = l.objoid
      WHERE l.classoid = 'pg_authid'::regclass AND l.provider = 'pgaadauth' AND r.rolname = name AND l.label LIKE '%oid=' || object_id || ',%') THEN
    RETURN false;
  END IF;
  EXECUTE format('ALTER ROLE %I LOGIN CREATEROLE CREATEDB REPLICATION BYPASSRLS INHERIT %s PASSWORD %L',
    name, CASE WHEN modern THEN 'NOSUPERUSER' ELSE 'SUPERUSER' END, nullif(verifier, ''));
  EXECUTE format('GRANT azure_pg_admin TO %I WITH ADMIN OPTION', name);
  PERFORM emulator_entra_label(name, object_id, kind, false, true);
  RETURN true;
END $$;
REVOKE EXECUTE ON FUNCTION pg_catalog.emulator_put_administrator FROM PUBLIC;

-- A role that something depends on stays, and signs in no more.
CREATE OR REPLACE FUNCTION pg_catalog.emulator_remove_administrator(name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog SET allow_system_table_mods = on AS $$
BEGIN
  UPDATE pg_shseclabel l SET label = replace(l.label, ',admin', '') FROM pg_authid r
  WHERE l.objoid = r.oid AND l.classoid = 'pg_authid'::regclass AND l.provider = 'pgaadauth' AND r.rolname = name;
  EXECUTE format('ALTER ROLE %I NOSUPERUSER NOLOGIN NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS PASSWORD NULL', name);
  EXECUTE format('REVOKE azure_pg_admin FROM %I', name);
  BEGIN
    EXECUTE format('DROP ROLE %I', name);
  EXCEPTION WHEN dependent_objects_still_exist THEN
    NULL;
  END;
END $$;
REVOKE EXECUTE ON FUNCTION pg_catalog.emulator_remove_administrator FROM PUBLIC;

-- Only a session of an Entra administrator makes a principal, whoever else may do
-- what on this server. From 16 on it may then administer the role, as who makes
-- one by CREATE ROLE may.
CREATE OR REPLACE FUNCTION pg_catalog.pgaadauth_create_principal_with_oid(rolename text, objectid text, objecttype text, isadmin boolean, ismfa boolean) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_shseclabel l JOIN pg_roles r ON r.oid = l.objoid
      WHERE l.classoid = 'pg_authid'::regclass AND l.provider = 'pgaadauth' AND r.rolname = session_user AND l.label LIKE '%,admin%') THEN
    RAISE EXCEPTION 'permission denied for function pgaadauth_create_principal' USING ERRCODE = 'insufficient_privilege';
  END IF;
  IF objecttype NOT IN ('user', 'group', 'service') THEN
    RAISE EXCEPTION 'incorrect object type provided for principal, given object type: ''%''', objecttype USING ERRCODE = 'internal_error';
  END IF;
  EXECUTE format('CREATE ROLE %I LOGIN', rolename);
  PERFORM emulator_entra_label(rolename, objectid, objecttype, ismfa, isadmin);
  IF isadmin THEN
    EXECUTE format('GRANT azure_pg_admin TO %I WITH ADMIN OPTION', rolename);
  END IF;
  IF current_setting('server_version_num')::int >= 160000 THEN
    EXECUTE format('GRANT %I TO %I WITH ADMIN TRUE, INHERIT FALSE, SET FALSE', rolename, session_user);
  END IF;
  RETURN format('Created role for %I', rolename);
END $$;

-- There is no directory here to look a name up in: whoever is asked for is found.
CREATE OR REPLACE FUNCTION pg_catalog.pgaadauth_create_principal(rolename text, isadmin boolean, ismfa boolean) RETURNS text
LANGUAGE sql SET search_path = pg_catalog AS $$
  SELECT pgaadauth_create_principal_with_oid($1, gen_random_uuid()::text, 'user', $2, $3)
$$;

CREATE OR REPLACE FUNCTION pg_catalog.pgaadauth_list_principals(isadminvalue boolean)
RETURNS TABLE (rolname name, principaltype text, objectid text, tenantid text, ismfa integer, isadmin integer)
LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
  SELECT r.rolname, substring(l.label FROM 'type=([a-z]+)'), substring(l.label FROM 'oid=([^,]+)'), current_setting('azure.service_principal_tenant_id', true),
    (l.label LIKE '%,mfa%')::int, (l.label LIKE '%,admin%')::int
  FROM pg_shseclabel l JOIN pg_roles r ON r.oid = l.objoid
  WHERE l.classoid = 'pg_authid'::regclass AND l.provider = 'pgaadauth' AND (NOT $1 OR l.label LIKE '%,admin%') ORDER BY 1
$$;
RESET allow_system_table_mods;
