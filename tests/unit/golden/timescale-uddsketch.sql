-- guard
DO $block$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb') THEN
    RAISE EXCEPTION 'this script was written for a server with timescaledb, which this one lacks';
  END IF;
  IF EXISTS (SELECT FROM pg_extension
             WHERE extname = 'timescaledb' AND extnamespace <> 'public'::regnamespace) THEN
    RAISE EXCEPTION 'this script needs timescaledb in the schema public; migrate from Python instead';
  END IF;
  IF NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb_toolkit') THEN
    RAISE EXCEPTION 'this script was written for a server with timescaledb_toolkit, which this one lacks';
  END IF;
  IF EXISTS (SELECT FROM pg_extension
             WHERE extname = 'timescaledb_toolkit' AND extnamespace <> 'public'::regnamespace) THEN
    RAISE EXCEPTION 'this script needs timescaledb_toolkit in the schema public; migrate from Python instead';
  END IF;
  IF NOT EXISTS (SELECT FROM pg_settings WHERE name LIKE 'timescaledb.%') THEN
    RAISE EXCEPTION 'this script needs timescaledb in shared_preload_libraries';
  END IF;
  -- Two IFs: one condition would be parsed whole, and the table is not there at first.
  IF to_regclass('ledger.installation') IS NOT NULL THEN
    IF EXISTS (SELECT FROM ledger.installation
        WHERE (storage, percentiles) <> ('timescale', 'uddsketch')) THEN
      RAISE EXCEPTION 'this script is for timescale with uddsketch; the database has another';
    END IF;
  END IF;
END
$block$;

-- create Routine uuid_time
CREATE OR REPLACE FUNCTION ledger.uuid_time(id uuid) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN to_timestamp((('x' || encode(substring(uuid_send(id), 1, 6), 'hex'))::bit(48)::bigint)::double precision / 1000);

-- drop Routine uuid_time
DROP ROUTINE IF EXISTS ledger.uuid_time;

-- create LatencyFunctions latency_percentile
CREATE OR REPLACE FUNCTION ledger.latency_percentile(sketch public.uddsketch, quantile double precision) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN public.approx_percentile(quantile, sketch);

-- drop LatencyFunctions latency_percentile
DROP ROUTINE IF EXISTS ledger.latency_percentile;

-- create Routine raw_from
CREATE OR REPLACE FUNCTION ledger.raw_from() RETURNS timestamptz LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT greatest(
  p.raw_from,
  date_bin('1 hour', now() - (i.retention ->> 'llm_requests')::interval, '1970-01-01 00:00:00+00')
    + INTERVAL '1 hour')
FROM ledger.rollup_progress p, ledger.installation i WHERE p.source = 'llm_requests'
$function$;
REVOKE ALL ON ROUTINE ledger.raw_from FROM PUBLIC;

-- drop Routine raw_from
DROP ROUTINE IF EXISTS ledger.raw_from;

-- create TimeSeries llm_requests
SELECT public.create_hypertable('ledger.llm_requests', public.by_range('timestamp', INTERVAL '1 days'), create_default_indexes => false, if_not_exists => true);
INSERT INTO ledger.rollup_progress (source) VALUES ('llm_requests') ON CONFLICT DO NOTHING;

-- drop TimeSeries llm_requests
DELETE FROM ledger.rollup_progress WHERE source = 'llm_requests';

-- create Routine requests_by_key
CREATE OR REPLACE FUNCTION ledger.requests_by_key(user_ids uuid[], timestamps timestamptz[], ids uuid[]) RETURNS SETOF ledger.llm_requests LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT r.* FROM unnest(user_ids, timestamps, ids) AS k(user_id, at, id)
CROSS JOIN LATERAL (
  SELECT * FROM ledger.llm_requests s
  WHERE s.user_id = k.user_id AND s."timestamp" = k.at AND s.id = k.id OFFSET 0) AS r
$function$;
REVOKE ALL ON ROUTINE ledger.requests_by_key FROM PUBLIC;

-- drop Routine requests_by_key
DROP ROUTINE IF EXISTS ledger.requests_by_key;

-- create Rollup llm_metrics_1m
CREATE MATERIALIZED VIEW IF NOT EXISTS ledger.llm_metrics_1m WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false) AS SELECT public.time_bucket(INTERVAL '60 seconds', "timestamp") AS bucket, user_id, provider, model, (count(*))::bigint AS requests, (count(*) FILTER (WHERE http_status_code >= 400 OR error_type IS NOT NULL))::bigint AS errors, (count(*) FILTER (WHERE http_status_code = 429))::bigint AS rate_limited, (sum(input_tokens))::bigint AS input_tokens, (sum(output_tokens))::bigint AS output_tokens, (sum(reasoning_tokens))::bigint AS reasoning_tokens, (sum(cache_read_tokens))::bigint AS cache_read_tokens, (sum(cache_write_tokens))::bigint AS cache_write_tokens, coalesce(sum(cost_usd), 0) AS cost_usd, (count(*) FILTER (WHERE cost_usd IS NULL))::bigint AS unpriced_requests, (sum(latency_ms))::bigint AS latency_sum_ms, public.uddsketch(256, 0.0265::double precision, least(greatest(latency_ms, 10), 3600000)::double precision) AS latency_sketch FROM ledger.llm_requests GROUP BY 1, user_id, provider, model WITH NO DATA;
ALTER MATERIALIZED VIEW ledger.llm_metrics_1m SET (timescaledb.materialized_only = false);
CREATE INDEX IF NOT EXISTS llm_metrics_1m_user_id_bucket_idx ON ledger.llm_metrics_1m (user_id, bucket DESC);

-- drop Rollup llm_metrics_1m
DROP MATERIALIZED VIEW IF EXISTS ledger.llm_metrics_1m;

-- create Rollup llm_metrics_1h
CREATE MATERIALIZED VIEW IF NOT EXISTS ledger.llm_metrics_1h WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false) AS SELECT public.time_bucket(INTERVAL '3600 seconds', "bucket") AS bucket, user_id, provider, model, (sum(requests))::bigint AS requests, (sum(errors))::bigint AS errors, (sum(rate_limited))::bigint AS rate_limited, (sum(input_tokens))::bigint AS input_tokens, (sum(output_tokens))::bigint AS output_tokens, (sum(reasoning_tokens))::bigint AS reasoning_tokens, (sum(cache_read_tokens))::bigint AS cache_read_tokens, (sum(cache_write_tokens))::bigint AS cache_write_tokens, sum(cost_usd) AS cost_usd, (sum(unpriced_requests))::bigint AS unpriced_requests, (sum(latency_sum_ms))::bigint AS latency_sum_ms, public.rollup(latency_sketch) AS latency_sketch FROM ledger.llm_metrics_1m GROUP BY 1, user_id, provider, model WITH NO DATA;
ALTER MATERIALIZED VIEW ledger.llm_metrics_1h SET (timescaledb.materialized_only = false);
CREATE INDEX IF NOT EXISTS llm_metrics_1h_user_id_bucket_idx ON ledger.llm_metrics_1h (user_id, bucket DESC);

-- drop Rollup llm_metrics_1h
DROP MATERIALIZED VIEW IF EXISTS ledger.llm_metrics_1h;

-- create Refresh refresh_metrics
DO $block$
BEGIN
  IF EXISTS (SELECT FROM pg_proc WHERE proname = 'refresh_continuous_aggregate'
             AND 'options' = ANY (proargnames)) THEN
    EXECUTE $ordered$CREATE OR REPLACE PROCEDURE ledger.refresh_metrics(job_id integer DEFAULT 0, config jsonb DEFAULT '{}') LANGUAGE plpgsql AS $procedure$
DECLARE
  low timestamp with time zone;
  high timestamp with time zone;
  was_hashing CONSTANT pg_catalog.text := pg_catalog.current_setting('enable_hashagg');
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  low := nullif(ledger.raw_from(), '-infinity') - INTERVAL '1 hour';
  high := date_bin('1 hour',
    now() - INTERVAL '300 seconds', '1970-01-01 00:00:00+00'::timestamptz);
  IF low >= high THEN
    RETURN;
  END IF;
  PERFORM set_config('enable_hashagg', 'off', false);
  CALL public.refresh_continuous_aggregate(
    'ledger.llm_metrics_1m', low, high, options => '{"buckets_per_batch": 0, "refresh_newest_first": false}');
  COMMIT;
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  CALL public.refresh_continuous_aggregate(
    'ledger.llm_metrics_1h', low, high, options => '{"buckets_per_batch": 0, "refresh_newest_first": false}');
  COMMIT;
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  PERFORM set_config('enable_hashagg', was_hashing, false);
  UPDATE ledger.rollup_progress SET watermark = high
  WHERE source = 'llm_requests' AND watermark < high;
END
$procedure$$ordered$;
  ELSE
    EXECUTE $plain$CREATE OR REPLACE PROCEDURE ledger.refresh_metrics(job_id integer DEFAULT 0, config jsonb DEFAULT '{}') LANGUAGE plpgsql AS $procedure$
DECLARE
  low timestamp with time zone;
  high timestamp with time zone;
  was_hashing CONSTANT pg_catalog.text := pg_catalog.current_setting('enable_hashagg');
BEGIN
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  low := nullif(ledger.raw_from(), '-infinity') - INTERVAL '1 hour';
  high := date_bin('1 hour',
    now() - INTERVAL '300 seconds', '1970-01-01 00:00:00+00'::timestamptz);
  IF low >= high THEN
    RETURN;
  END IF;
  PERFORM set_config('enable_hashagg', 'off', false);
  CALL public.refresh_continuous_aggregate(
    'ledger.llm_metrics_1m', low, high);
  COMMIT;
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  CALL public.refresh_continuous_aggregate(
    'ledger.llm_metrics_1h', low, high);
  COMMIT;
  PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  PERFORM set_config('enable_hashagg', was_hashing, false);
  UPDATE ledger.rollup_progress SET watermark = high
  WHERE source = 'llm_requests' AND watermark < high;
END
$procedure$$plain$;
  END IF;
  IF NOT EXISTS (SELECT FROM timescaledb_information.jobs
                 WHERE proc_schema = 'ledger' AND proc_name = 'refresh_metrics') THEN
    PERFORM public.add_job('ledger.refresh_metrics', INTERVAL '0 days 60 seconds',
                          fixed_schedule => false);
  ELSE
    PERFORM public.alter_job(job_id, scheduled => true,
                            schedule_interval => INTERVAL '0 days 60 seconds')
    FROM timescaledb_information.jobs
    WHERE proc_schema = 'ledger' AND proc_name = 'refresh_metrics';
  END IF;
END
$block$;

-- drop Refresh refresh_metrics
-- (outside a transaction)
SELECT public.delete_job(job_id) FROM timescaledb_information.jobs WHERE proc_schema = 'ledger' AND proc_name = 'refresh_metrics';
-- (outside a transaction)
DO $block$
BEGIN
  FOR attempt IN 1 .. 600 LOOP
    PERFORM pg_stat_clear_snapshot();
    EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
      AND pid <> pg_backend_pid() AND state = 'active'
      AND query LIKE 'CALL ledger.refresh_metrics%');
    PERFORM pg_sleep(0.1);
  END LOOP;
END
$block$;
DROP ROUTINE IF EXISTS ledger.refresh_metrics;
UPDATE ledger.rollup_progress SET watermark = '-infinity' WHERE source = 'llm_requests';

-- create Columnstore llm_requests
DO $block$
BEGIN
  EXECUTE format('ALTER %s ledger.llm_requests SET (%s)',
    CASE WHEN EXISTS (SELECT FROM timescaledb_information.continuous_aggregates
                      WHERE view_schema = 'ledger' AND view_name = 'llm_requests')
         THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END, $options$timescaledb.enable_columnstore = true, timescaledb.segmentby = 'user_id', timescaledb.orderby = '"timestamp" DESC, id'$options$);
END
$block$;
CALL public.remove_columnstore_policy('ledger.llm_requests', if_exists => true);
CALL public.add_columnstore_policy('ledger.llm_requests', after => INTERVAL '7 days');

-- drop Columnstore llm_requests
CALL public.remove_columnstore_policy('ledger.llm_requests', if_exists => true);
SELECT public.decompress_chunk(c, true) FROM public.show_chunks('ledger.llm_requests') AS c;
DO $block$
BEGIN
  EXECUTE format('ALTER %s ledger.llm_requests SET (%s)',
    CASE WHEN EXISTS (SELECT FROM timescaledb_information.continuous_aggregates
                      WHERE view_schema = 'ledger' AND view_name = 'llm_requests')
         THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END, $options$timescaledb.enable_columnstore = false$options$);
END
$block$;

-- create Columnstore llm_metrics_1m
DO $block$
BEGIN
  EXECUTE format('ALTER %s ledger.llm_metrics_1m SET (%s)',
    CASE WHEN EXISTS (SELECT FROM timescaledb_information.continuous_aggregates
                      WHERE view_schema = 'ledger' AND view_name = 'llm_metrics_1m')
         THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END, $options$timescaledb.enable_columnstore = true, timescaledb.segmentby = 'user_id', timescaledb.orderby = 'bucket DESC'$options$);
END
$block$;
CALL public.remove_columnstore_policy('ledger.llm_metrics_1m', if_exists => true);
CALL public.add_columnstore_policy('ledger.llm_metrics_1m', after => INTERVAL '7 days');

-- drop Columnstore llm_metrics_1m
CALL public.remove_columnstore_policy('ledger.llm_metrics_1m', if_exists => true);
SELECT public.decompress_chunk(c, true) FROM public.show_chunks('ledger.llm_metrics_1m') AS c;
DO $block$
BEGIN
  EXECUTE format('ALTER %s ledger.llm_metrics_1m SET (%s)',
    CASE WHEN EXISTS (SELECT FROM timescaledb_information.continuous_aggregates
                      WHERE view_schema = 'ledger' AND view_name = 'llm_metrics_1m')
         THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END, $options$timescaledb.enable_columnstore = false$options$);
END
$block$;

-- create Columnstore llm_metrics_1h
DO $block$
BEGIN
  EXECUTE format('ALTER %s ledger.llm_metrics_1h SET (%s)',
    CASE WHEN EXISTS (SELECT FROM timescaledb_information.continuous_aggregates
                      WHERE view_schema = 'ledger' AND view_name = 'llm_metrics_1h')
         THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END, $options$timescaledb.enable_columnstore = true, timescaledb.segmentby = 'user_id', timescaledb.orderby = 'bucket DESC'$options$);
END
$block$;
CALL public.remove_columnstore_policy('ledger.llm_metrics_1h', if_exists => true);
CALL public.add_columnstore_policy('ledger.llm_metrics_1h', after => INTERVAL '7 days');

-- drop Columnstore llm_metrics_1h
CALL public.remove_columnstore_policy('ledger.llm_metrics_1h', if_exists => true);
SELECT public.decompress_chunk(c, true) FROM public.show_chunks('ledger.llm_metrics_1h') AS c;
DO $block$
BEGIN
  EXECUTE format('ALTER %s ledger.llm_metrics_1h SET (%s)',
    CASE WHEN EXISTS (SELECT FROM timescaledb_information.continuous_aggregates
                      WHERE view_schema = 'ledger' AND view_name = 'llm_metrics_1h')
         THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END, $options$timescaledb.enable_columnstore = false$options$);
END
$block$;

-- create Retention llm_requests
DO $block$
DECLARE
  forever CONSTANT interval := '1000 years';
  wished jsonb;
  keep interval;
  wishes jsonb;
  raw interval;
  minutes interval;
  hours interval;
  horizon timestamptz;
  waits boolean := false;
  patience text;
BEGIN
  SELECT retention INTO wished FROM ledger.installation FOR UPDATE;
  keep := coalesce((wished ->> 'llm_requests')::interval, justify_hours(make_interval(secs => 7776000)));
  wishes := wished || jsonb_build_object('llm_requests', keep::text);
  raw := coalesce((wishes ->> 'llm_requests')::interval, forever);
  minutes := coalesce((wishes ->> 'llm_metrics_1m')::interval, forever);
  hours := coalesce((wishes ->> 'llm_metrics_1h')::interval, forever);
  IF keep < INTERVAL '1 day' THEN
    RAISE EXCEPTION USING ERRCODE = 'LG001', MESSAGE = format(
      '%s cannot be kept for %s: the shortest is 1 day, as the last hours are not rolled up yet',
      'llm_requests', keep);
  END IF;
  IF minutes < raw OR hours < minutes THEN
    RAISE EXCEPTION USING ERRCODE = 'LG001', MESSAGE = format(
      'raw rows for %s, minutes for %s, hours for %s: a late row would rebuild an hour from minutes'
      ' that are gone and erase what it held; keep raw <= 1m <= 1h', raw, minutes, hours);
  END IF;
  IF 'llm_requests' = 'llm_requests' AND keep <> (wished ->> 'llm_requests')::interval THEN
    horizon := date_bin('1 hour', now() - least(keep, (wished ->> 'llm_requests')::interval),
                        '1970-01-01 00:00:00+00') + INTERVAL '1 hour';
    IF to_regclass('ledger.llm_requests_touched') IS NOT NULL THEN
      -- Rows that are being written belong before the old horizon or behind the new one.
      patience := current_setting('lock_timeout');
      PERFORM set_config('lock_timeout', '1s', true);
      LOCK TABLE ledger.llm_requests IN SHARE MODE;
      PERFORM set_config('lock_timeout', patience, true);
      EXECUTE 'SELECT EXISTS (SELECT FROM ledger.llm_requests_touched'
        ' WHERE hour < $1 AND hour >= ledger.raw_from())' INTO waits USING horizon;
    END IF;
    IF waits THEN
      RAISE EXCEPTION USING ERRCODE = 'LG001', MESSAGE = format(
        'hours before %s still wait to be rolled up, and raw rows kept for %s would go before'
        ' they are; run `ledger maintain` first', horizon, keep);
    END IF;
    UPDATE ledger.rollup_progress SET raw_from = greatest(raw_from, horizon)
    WHERE source = 'llm_requests';
  END IF;
  UPDATE ledger.installation SET retention = wishes;
END
$block$;
SELECT public.remove_retention_policy('ledger.llm_requests', if_exists => true);
SELECT public.add_retention_policy('ledger.llm_requests', (SELECT (retention ->> 'llm_requests')::interval FROM ledger.installation), schedule_interval => INTERVAL '1 hour');

-- drop Retention llm_requests
SELECT public.remove_retention_policy('ledger.llm_requests', if_exists => true);

-- create Retention llm_metrics_1m
DO $block$
DECLARE
  forever CONSTANT interval := '1000 years';
  wished jsonb;
  keep interval;
  wishes jsonb;
  raw interval;
  minutes interval;
  hours interval;
  horizon timestamptz;
  waits boolean := false;
  patience text;
BEGIN
  SELECT retention INTO wished FROM ledger.installation FOR UPDATE;
  keep := coalesce((wished ->> 'llm_metrics_1m')::interval, justify_hours(make_interval(secs => 7776000)));
  wishes := wished || jsonb_build_object('llm_metrics_1m', keep::text);
  raw := coalesce((wishes ->> 'llm_requests')::interval, forever);
  minutes := coalesce((wishes ->> 'llm_metrics_1m')::interval, forever);
  hours := coalesce((wishes ->> 'llm_metrics_1h')::interval, forever);
  IF keep < INTERVAL '1 day' THEN
    RAISE EXCEPTION USING ERRCODE = 'LG001', MESSAGE = format(
      '%s cannot be kept for %s: the shortest is 1 day, as the last hours are not rolled up yet',
      'llm_metrics_1m', keep);
  END IF;
  IF minutes < raw OR hours < minutes THEN
    RAISE EXCEPTION USING ERRCODE = 'LG001', MESSAGE = format(
      'raw rows for %s, minutes for %s, hours for %s: a late row would rebuild an hour from minutes'
      ' that are gone and erase what it held; keep raw <= 1m <= 1h', raw, minutes, hours);
  END IF;
  IF 'llm_metrics_1m' = 'llm_requests' AND keep <> (wished ->> 'llm_requests')::interval THEN
    horizon := date_bin('1 hour', now() - least(keep, (wished ->> 'llm_requests')::interval),
                        '1970-01-01 00:00:00+00') + INTERVAL '1 hour';
    IF to_regclass('ledger.llm_requests_touched') IS NOT NULL THEN
      -- Rows that are being written belong before the old horizon or behind the new one.
      patience := current_setting('lock_timeout');
      PERFORM set_config('lock_timeout', '1s', true);
      LOCK TABLE ledger.llm_requests IN SHARE MODE;
      PERFORM set_config('lock_timeout', patience, true);
      EXECUTE 'SELECT EXISTS (SELECT FROM ledger.llm_requests_touched'
        ' WHERE hour < $1 AND hour >= ledger.raw_from())' INTO waits USING horizon;
    END IF;
    IF waits THEN
      RAISE EXCEPTION USING ERRCODE = 'LG001', MESSAGE = format(
        'hours before %s still wait to be rolled up, and raw rows kept for %s would go before'
        ' they are; run `ledger maintain` first', horizon, keep);
    END IF;
    UPDATE ledger.rollup_progress SET raw_from = greatest(raw_from, horizon)
    WHERE source = 'llm_requests';
  END IF;
  UPDATE ledger.installation SET retention = wishes;
END
$block$;
SELECT public.remove_retention_policy('ledger.llm_metrics_1m', if_exists => true);
SELECT public.add_retention_policy('ledger.llm_metrics_1m', (SELECT (retention ->> 'llm_metrics_1m')::interval FROM ledger.installation), schedule_interval => INTERVAL '1 hour');

-- drop Retention llm_metrics_1m
SELECT public.remove_retention_policy('ledger.llm_metrics_1m', if_exists => true);

-- create Retention llm_metrics_1h
DO $block$
DECLARE
  forever CONSTANT interval := '1000 years';
  wished jsonb;
  keep interval;
  wishes jsonb;
  raw interval;
  minutes interval;
  hours interval;
  horizon timestamptz;
  waits boolean := false;
  patience text;
BEGIN
  SELECT retention INTO wished FROM ledger.installation FOR UPDATE;
  keep := coalesce((wished ->> 'llm_metrics_1h')::interval, justify_hours(make_interval(secs => 63072000)));
  wishes := wished || jsonb_build_object('llm_metrics_1h', keep::text);
  raw := coalesce((wishes ->> 'llm_requests')::interval, forever);
  minutes := coalesce((wishes ->> 'llm_metrics_1m')::interval, forever);
  hours := coalesce((wishes ->> 'llm_metrics_1h')::interval, forever);
  IF keep < INTERVAL '1 day' THEN
    RAISE EXCEPTION USING ERRCODE = 'LG001', MESSAGE = format(
      '%s cannot be kept for %s: the shortest is 1 day, as the last hours are not rolled up yet',
      'llm_metrics_1h', keep);
  END IF;
  IF minutes < raw OR hours < minutes THEN
    RAISE EXCEPTION USING ERRCODE = 'LG001', MESSAGE = format(
      'raw rows for %s, minutes for %s, hours for %s: a late row would rebuild an hour from minutes'
      ' that are gone and erase what it held; keep raw <= 1m <= 1h', raw, minutes, hours);
  END IF;
  IF 'llm_metrics_1h' = 'llm_requests' AND keep <> (wished ->> 'llm_requests')::interval THEN
    horizon := date_bin('1 hour', now() - least(keep, (wished ->> 'llm_requests')::interval),
                        '1970-01-01 00:00:00+00') + INTERVAL '1 hour';
    IF to_regclass('ledger.llm_requests_touched') IS NOT NULL THEN
      -- Rows that are being written belong before the old horizon or behind the new one.
      patience := current_setting('lock_timeout');
      PERFORM set_config('lock_timeout', '1s', true);
      LOCK TABLE ledger.llm_requests IN SHARE MODE;
      PERFORM set_config('lock_timeout', patience, true);
      EXECUTE 'SELECT EXISTS (SELECT FROM ledger.llm_requests_touched'
        ' WHERE hour < $1 AND hour >= ledger.raw_from())' INTO waits USING horizon;
    END IF;
    IF waits THEN
      RAISE EXCEPTION USING ERRCODE = 'LG001', MESSAGE = format(
        'hours before %s still wait to be rolled up, and raw rows kept for %s would go before'
        ' they are; run `ledger maintain` first', horizon, keep);
    END IF;
    UPDATE ledger.rollup_progress SET raw_from = greatest(raw_from, horizon)
    WHERE source = 'llm_requests';
  END IF;
  UPDATE ledger.installation SET retention = wishes;
END
$block$;
SELECT public.remove_retention_policy('ledger.llm_metrics_1h', if_exists => true);
SELECT public.add_retention_policy('ledger.llm_metrics_1h', (SELECT (retention ->> 'llm_metrics_1h')::interval FROM ledger.installation), schedule_interval => INTERVAL '1 hour');

-- drop Retention llm_metrics_1h
SELECT public.remove_retention_policy('ledger.llm_metrics_1h', if_exists => true);

-- create View my_scopes
CREATE OR REPLACE VIEW ledger.my_scopes WITH (security_barrier) AS SELECT kind, user_id FROM ledger.role_scopes WHERE role = current_user AND project_id IS NULL;

-- drop View my_scopes
DROP VIEW IF EXISTS ledger.my_scopes;

-- create Routine scoped_users
CREATE OR REPLACE FUNCTION ledger.scoped_users() RETURNS uuid[] LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  narrowed CONSTANT uuid := nullif(current_setting('ledger.user_id', true), '')::uuid;
BEGIN
  RETURN ARRAY(
    SELECT user_id FROM ledger.my_scopes
    WHERE kind = 'reader' AND (narrowed IS NULL OR user_id = narrowed)
    UNION
    SELECT narrowed WHERE narrowed IS NOT NULL
      AND EXISTS (SELECT FROM ledger.my_scopes WHERE kind IN ('service', 'auditor')));
END
$function$;

-- drop Routine scoped_users
DROP ROUTINE IF EXISTS ledger.scoped_users;

-- create Routine sees_all
CREATE OR REPLACE FUNCTION ledger.sees_all() RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  RETURN nullif(current_setting('ledger.user_id', true), '')::uuid IS NULL
    AND EXISTS (SELECT FROM ledger.my_scopes WHERE kind IN ('service', 'auditor'));
END
$function$;

-- drop Routine sees_all
DROP ROUTINE IF EXISTS ledger.sees_all;

-- create View visible_requests
CREATE OR REPLACE VIEW ledger.visible_requests WITH (security_barrier) AS SELECT * FROM (SELECT user_id, "timestamp", id, request_id, provider, model, response_model, operation, category, latency_ms, time_to_first_token_ms, input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cache_write_tokens, cost_usd, http_status_code, error_type, error_message, is_streaming, service_tier, session_id, agent_id, project_id, attributes FROM ledger.llm_requests WHERE user_id = ANY ((SELECT ledger.scoped_users())::uuid[]) UNION ALL SELECT user_id, "timestamp", id, request_id, provider, model, response_model, operation, category, latency_ms, time_to_first_token_ms, input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cache_write_tokens, cost_usd, http_status_code, error_type, error_message, is_streaming, service_tier, session_id, agent_id, project_id, attributes FROM ledger.llm_requests WHERE (SELECT ledger.sees_all())) AS visible;

-- drop View visible_requests
DROP VIEW IF EXISTS ledger.visible_requests;

-- create View visible_metrics_1m
CREATE OR REPLACE VIEW ledger.visible_metrics_1m WITH (security_barrier) AS SELECT * FROM (SELECT bucket, user_id, provider, model, requests, errors, rate_limited, input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cache_write_tokens, cost_usd, unpriced_requests, latency_sum_ms, latency_sum_ms::double precision / requests AS average_latency_ms, ledger.latency_percentile(latency_sketch, 0.5) AS p50_latency_ms, ledger.latency_percentile(latency_sketch, 0.95) AS p95_latency_ms, ledger.latency_percentile(latency_sketch, 0.99) AS p99_latency_ms, latency_sketch FROM ledger.llm_metrics_1m WHERE user_id = ANY ((SELECT ledger.scoped_users())::uuid[]) UNION ALL SELECT bucket, user_id, provider, model, requests, errors, rate_limited, input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cache_write_tokens, cost_usd, unpriced_requests, latency_sum_ms, latency_sum_ms::double precision / requests AS average_latency_ms, ledger.latency_percentile(latency_sketch, 0.5) AS p50_latency_ms, ledger.latency_percentile(latency_sketch, 0.95) AS p95_latency_ms, ledger.latency_percentile(latency_sketch, 0.99) AS p99_latency_ms, latency_sketch FROM ledger.llm_metrics_1m WHERE (SELECT ledger.sees_all())) AS visible;

-- drop View visible_metrics_1m
DROP VIEW IF EXISTS ledger.visible_metrics_1m;

-- create View visible_metrics_1h
CREATE OR REPLACE VIEW ledger.visible_metrics_1h WITH (security_barrier) AS SELECT * FROM (SELECT bucket, user_id, provider, model, requests, errors, rate_limited, input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cache_write_tokens, cost_usd, unpriced_requests, latency_sum_ms, latency_sum_ms::double precision / requests AS average_latency_ms, ledger.latency_percentile(latency_sketch, 0.5) AS p50_latency_ms, ledger.latency_percentile(latency_sketch, 0.95) AS p95_latency_ms, ledger.latency_percentile(latency_sketch, 0.99) AS p99_latency_ms, latency_sketch FROM ledger.llm_metrics_1h WHERE user_id = ANY ((SELECT ledger.scoped_users())::uuid[]) UNION ALL SELECT bucket, user_id, provider, model, requests, errors, rate_limited, input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cache_write_tokens, cost_usd, unpriced_requests, latency_sum_ms, latency_sum_ms::double precision / requests AS average_latency_ms, ledger.latency_percentile(latency_sketch, 0.5) AS p50_latency_ms, ledger.latency_percentile(latency_sketch, 0.95) AS p95_latency_ms, ledger.latency_percentile(latency_sketch, 0.99) AS p99_latency_ms, latency_sketch FROM ledger.llm_metrics_1h WHERE (SELECT ledger.sees_all())) AS visible;

-- drop View visible_metrics_1h
DROP VIEW IF EXISTS ledger.visible_metrics_1h;

-- create AppendOnly tiers
CREATE OR REPLACE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE = format(
    '%s of ledger.%I is refused: its rows are added and never changed; a correction is a new row',
    TG_OP, TG_TABLE_NAME);
END
$function$;
CREATE OR REPLACE TRIGGER tiers_keeps_rows BEFORE UPDATE OR DELETE ON ledger.tiers FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE ledger.tiers ENABLE ALWAYS TRIGGER tiers_keeps_rows;
CREATE OR REPLACE TRIGGER tiers_refuses_change BEFORE UPDATE OR DELETE ON ledger.tiers FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE ledger.tiers ENABLE ALWAYS TRIGGER tiers_refuses_change;
CREATE OR REPLACE TRIGGER tiers_refuses_truncate BEFORE TRUNCATE ON ledger.tiers FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE ledger.tiers ENABLE ALWAYS TRIGGER tiers_refuses_truncate;

-- drop AppendOnly tiers
DROP TRIGGER IF EXISTS tiers_keeps_rows ON ledger.tiers;
DROP TRIGGER IF EXISTS tiers_refuses_change ON ledger.tiers;
DROP TRIGGER IF EXISTS tiers_refuses_truncate ON ledger.tiers;
-- (its rows are run)
SELECT 'DROP FUNCTION IF EXISTS ledger.refuse_change()' WHERE NOT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = to_regprocedure('ledger.refuse_change()'));

-- create AppendOnly model_prices
CREATE OR REPLACE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE = format(
    '%s of ledger.%I is refused: its rows are added and never changed; a correction is a new row',
    TG_OP, TG_TABLE_NAME);
END
$function$;
CREATE OR REPLACE TRIGGER model_prices_keeps_rows BEFORE UPDATE OR DELETE ON ledger.model_prices FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE ledger.model_prices ENABLE ALWAYS TRIGGER model_prices_keeps_rows;
CREATE OR REPLACE TRIGGER model_prices_refuses_change BEFORE UPDATE OR DELETE ON ledger.model_prices FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE ledger.model_prices ENABLE ALWAYS TRIGGER model_prices_refuses_change;
CREATE OR REPLACE TRIGGER model_prices_refuses_truncate BEFORE TRUNCATE ON ledger.model_prices FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE ledger.model_prices ENABLE ALWAYS TRIGGER model_prices_refuses_truncate;

-- drop AppendOnly model_prices
DROP TRIGGER IF EXISTS model_prices_keeps_rows ON ledger.model_prices;
DROP TRIGGER IF EXISTS model_prices_refuses_change ON ledger.model_prices;
DROP TRIGGER IF EXISTS model_prices_refuses_truncate ON ledger.model_prices;
-- (its rows are run)
SELECT 'DROP FUNCTION IF EXISTS ledger.refuse_change()' WHERE NOT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = to_regprocedure('ledger.refuse_change()'));

-- create AppendOnly token_usage_ledger
CREATE OR REPLACE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE = format(
    '%s of ledger.%I is refused: its rows are added and never changed; a correction is a new row',
    TG_OP, TG_TABLE_NAME);
END
$function$;
CREATE OR REPLACE TRIGGER token_usage_ledger_keeps_rows BEFORE UPDATE OR DELETE ON ledger.token_usage_ledger FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE ledger.token_usage_ledger ENABLE ALWAYS TRIGGER token_usage_ledger_keeps_rows;
CREATE OR REPLACE TRIGGER token_usage_ledger_refuses_change BEFORE UPDATE OR DELETE ON ledger.token_usage_ledger FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE ledger.token_usage_ledger ENABLE ALWAYS TRIGGER token_usage_ledger_refuses_change;
CREATE OR REPLACE TRIGGER token_usage_ledger_refuses_truncate BEFORE TRUNCATE ON ledger.token_usage_ledger FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE ledger.token_usage_ledger ENABLE ALWAYS TRIGGER token_usage_ledger_refuses_truncate;

-- drop AppendOnly token_usage_ledger
DROP TRIGGER IF EXISTS token_usage_ledger_keeps_rows ON ledger.token_usage_ledger;
DROP TRIGGER IF EXISTS token_usage_ledger_refuses_change ON ledger.token_usage_ledger;
DROP TRIGGER IF EXISTS token_usage_ledger_refuses_truncate ON ledger.token_usage_ledger;
-- (its rows are run)
SELECT 'DROP FUNCTION IF EXISTS ledger.refuse_change()' WHERE NOT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = to_regprocedure('ledger.refuse_change()'));

-- create RowPolicy token_usage_ledger
ALTER TABLE ledger.token_usage_ledger ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS of_users ON ledger.token_usage_ledger;
CREATE POLICY of_users ON ledger.token_usage_ledger FOR SELECT USING (user_id = ANY ((SELECT ledger.scoped_users())::uuid[]));

-- drop RowPolicy token_usage_ledger
DROP POLICY IF EXISTS of_users ON ledger.token_usage_ledger;
ALTER TABLE ledger.token_usage_ledger DISABLE ROW LEVEL SECURITY;

-- create Routine usage_by_key
CREATE OR REPLACE FUNCTION ledger.usage_by_key(user_ids uuid[], request_ids text[]) RETURNS SETOF ledger.token_usage_ledger LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT u.* FROM unnest(user_ids, request_ids) AS k(user_id, request_id)
CROSS JOIN LATERAL (
  SELECT * FROM ledger.token_usage_ledger s
  WHERE s.user_id = k.user_id AND s.request_id = k.request_id OFFSET 0) AS u
$function$;
REVOKE ALL ON ROUTINE ledger.usage_by_key FROM PUBLIC;

-- drop Routine usage_by_key
DROP ROUTINE IF EXISTS ledger.usage_by_key;

-- create View visible_usage
CREATE OR REPLACE VIEW ledger.visible_usage WITH (security_barrier) AS SELECT * FROM (SELECT user_id, id, request_id, kind, adjusts_id, adjusts_created_at, provider_id, model_id, operation, project_id, status, tier, service_tier, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, usage_source, latency_ms, pricing_status, unpriced_reason, price_id, vendor_cost, margin_multiplier, credit_value_usd, credits_deducted, charge_usd, gross_margin_usd, created_at, recorded_at, attributes, stated_cost FROM ledger.token_usage_ledger WHERE user_id = ANY ((SELECT ledger.scoped_users())::uuid[]) UNION ALL SELECT user_id, id, request_id, kind, adjusts_id, adjusts_created_at, provider_id, model_id, operation, project_id, status, tier, service_tier, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, usage_source, latency_ms, pricing_status, unpriced_reason, price_id, vendor_cost, margin_multiplier, credit_value_usd, credits_deducted, charge_usd, gross_margin_usd, created_at, recorded_at, attributes, stated_cost FROM ledger.token_usage_ledger WHERE (SELECT ledger.sees_all())) AS visible;

-- drop View visible_usage
DROP VIEW IF EXISTS ledger.visible_usage;

-- create RunningSums token_usage_deltas
CREATE TABLE IF NOT EXISTS ledger.token_usage_deltas (hour timestamptz NOT NULL, provider_id uuid NOT NULL, model_id text NOT NULL, status text NOT NULL, tier text NOT NULL, requests bigint NOT NULL, unpriced_requests bigint NOT NULL, input_tokens numeric(38) NOT NULL, output_tokens numeric(38) NOT NULL, vendor_cost numeric(38, 12) NOT NULL, charge_usd numeric(38, 12) NOT NULL, credits_deducted numeric(38) NOT NULL, corrected_vendor_cost numeric(38, 12) NOT NULL, corrected_charge_usd numeric(38, 12) NOT NULL, corrected_credits_deducted numeric(38) NOT NULL, restated_vendor_cost numeric(38, 12) NOT NULL, restated_charge_usd numeric(38, 12) NOT NULL, restated_credits_deducted numeric(38) NOT NULL, cost_bins smallint[] NOT NULL) WITH (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0);
CREATE INDEX IF NOT EXISTS token_usage_deltas_idx ON ledger.token_usage_deltas (hour);
CREATE TABLE IF NOT EXISTS ledger.token_usage_hours (bucket timestamptz NOT NULL, provider_id uuid NOT NULL, status text NOT NULL, requests bigint NOT NULL, unpriced_requests bigint NOT NULL, input_tokens numeric(38) NOT NULL, output_tokens numeric(38) NOT NULL, vendor_cost numeric(38, 12) NOT NULL, charge_usd numeric(38, 12) NOT NULL, credits_deducted numeric(38) NOT NULL, corrected_vendor_cost numeric(38, 12) NOT NULL, corrected_charge_usd numeric(38, 12) NOT NULL, corrected_credits_deducted numeric(38) NOT NULL, restated_vendor_cost numeric(38, 12) NOT NULL, restated_charge_usd numeric(38, 12) NOT NULL, restated_credits_deducted numeric(38) NOT NULL, CONSTRAINT token_usage_hours_pkey PRIMARY KEY (bucket, provider_id, status));
CREATE TABLE IF NOT EXISTS ledger.token_usage_days (bucket timestamptz NOT NULL, provider_id uuid NOT NULL, status text NOT NULL, requests bigint NOT NULL, unpriced_requests bigint NOT NULL, input_tokens numeric(38) NOT NULL, output_tokens numeric(38) NOT NULL, vendor_cost numeric(38, 12) NOT NULL, charge_usd numeric(38, 12) NOT NULL, credits_deducted numeric(38) NOT NULL, corrected_vendor_cost numeric(38, 12) NOT NULL, corrected_charge_usd numeric(38, 12) NOT NULL, corrected_credits_deducted numeric(38) NOT NULL, restated_vendor_cost numeric(38, 12) NOT NULL, restated_charge_usd numeric(38, 12) NOT NULL, restated_credits_deducted numeric(38) NOT NULL, CONSTRAINT token_usage_days_pkey PRIMARY KEY (bucket, provider_id, status));
CREATE TABLE IF NOT EXISTS ledger.token_usage_model_days (bucket timestamptz NOT NULL, provider_id uuid NOT NULL, model_id text NOT NULL, status text NOT NULL, tier text NOT NULL, requests bigint NOT NULL, unpriced_requests bigint NOT NULL, input_tokens numeric(38) NOT NULL, output_tokens numeric(38) NOT NULL, vendor_cost numeric(38, 12) NOT NULL, charge_usd numeric(38, 12) NOT NULL, credits_deducted numeric(38) NOT NULL, corrected_vendor_cost numeric(38, 12) NOT NULL, corrected_charge_usd numeric(38, 12) NOT NULL, corrected_credits_deducted numeric(38) NOT NULL, restated_vendor_cost numeric(38, 12) NOT NULL, restated_charge_usd numeric(38, 12) NOT NULL, restated_credits_deducted numeric(38) NOT NULL, CONSTRAINT token_usage_model_days_pkey PRIMARY KEY (bucket, provider_id, model_id, status, tier));
CREATE TABLE IF NOT EXISTS ledger.token_usage_costs (bucket timestamptz NOT NULL, provider_id uuid NOT NULL, model_id text NOT NULL, status text NOT NULL, tier text NOT NULL, bin smallint NOT NULL, requests bigint NOT NULL, CONSTRAINT token_usage_costs_pkey PRIMARY KEY (bucket, provider_id, model_id, status, tier, bin));
CREATE TABLE IF NOT EXISTS ledger.token_usage_all_costs (bucket timestamptz NOT NULL, status text NOT NULL, bin smallint NOT NULL, requests bigint NOT NULL, CONSTRAINT token_usage_all_costs_pkey PRIMARY KEY (bucket, status, bin));
CREATE OR REPLACE FUNCTION ledger.append_token_usage_deltas() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  INSERT INTO ledger.token_usage_deltas
  SELECT date_bin('1 hour', moment, '1970-01-01 00:00:00+00'::timestamptz), provider_id, model_id, status, tier, count(*) FILTER (WHERE part = 'made'), count(*) FILTER (WHERE part = 'made' AND pricing_status = 'unpriced'), sum(input_tokens), sum(output_tokens), coalesce(sum(vendor_cost) FILTER (WHERE part = 'made'), 0), coalesce(sum(charge_usd) FILTER (WHERE part = 'made'), 0), coalesce(sum(credits_deducted) FILTER (WHERE part = 'made'), 0), coalesce(sum(vendor_cost) FILTER (WHERE part = 'corrected'), 0), coalesce(sum(charge_usd) FILTER (WHERE part = 'corrected'), 0), coalesce(sum(credits_deducted) FILTER (WHERE part = 'corrected'), 0), coalesce(sum(vendor_cost) FILTER (WHERE part = 'restated'), 0), coalesce(sum(charge_usd) FILTER (WHERE part = 'restated'), 0), coalesce(sum(credits_deducted) FILTER (WHERE part = 'restated'), 0), coalesce(array_agg(cost_bin) FILTER (WHERE part = 'made' AND cost_bin IS NOT NULL), '{}')
FROM (SELECT created_at AS moment, provider_id, model_id, status, tier,
  CASE WHEN kind = 'usage' THEN 'made' ELSE 'corrected' END AS part, pricing_status,
  input_tokens, output_tokens, vendor_cost, charge_usd, credits_deducted,
  CASE WHEN vendor_cost > 0 THEN ceil(48 * log(vendor_cost::double precision))
    WHEN vendor_cost = 0 THEN -32768 END::smallint AS cost_bin
FROM inserted
UNION ALL
SELECT adjusts_created_at, provider_id, model_id, status, tier, 'restated', pricing_status,
  0, 0, vendor_cost, charge_usd, credits_deducted, NULL
FROM inserted WHERE kind <> 'usage') AS contributed GROUP BY 1, provider_id, model_id, status, tier;
  RETURN NULL;
END
$function$;
REVOKE ALL ON ROUTINE ledger.append_token_usage_deltas FROM PUBLIC;
CREATE OR REPLACE TRIGGER token_usage_ledger_adds_to_sums AFTER INSERT ON ledger.token_usage_ledger REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION ledger.append_token_usage_deltas();
CREATE OR REPLACE FUNCTION ledger.fold_token_usage_deltas() RETURNS integer LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  taken_count integer;
BEGIN
  IF NOT pg_try_advisory_xact_lock('ledger.token_usage_deltas'::regclass::oid::bigint) THEN
    RETURN 0;
  END IF;
  WITH taken AS MATERIALIZED (
    DELETE FROM ledger.token_usage_deltas WHERE ctid = ANY (ARRAY(
      SELECT ctid FROM ledger.token_usage_deltas LIMIT 200000))
    RETURNING *),
folded_0 AS (
  INSERT INTO ledger.token_usage_hours AS total (bucket, provider_id, status, requests, unpriced_requests, input_tokens, output_tokens, vendor_cost, charge_usd, credits_deducted, corrected_vendor_cost, corrected_charge_usd, corrected_credits_deducted, restated_vendor_cost, restated_charge_usd, restated_credits_deducted)
  SELECT date_bin('3600 seconds', hour, '1970-01-01 00:00:00+00'::timestamptz), provider_id, status, sum(requests), sum(unpriced_requests), sum(input_tokens), sum(output_tokens), sum(vendor_cost), sum(charge_usd), sum(credits_deducted), sum(corrected_vendor_cost), sum(corrected_charge_usd), sum(corrected_credits_deducted), sum(restated_vendor_cost), sum(restated_charge_usd), sum(restated_credits_deducted)
  FROM taken
  GROUP BY 1, provider_id, status ORDER BY 1, provider_id, status
  ON CONFLICT (bucket, provider_id, status) DO UPDATE SET requests = total.requests + excluded.requests, unpriced_requests = total.unpriced_requests + excluded.unpriced_requests, input_tokens = total.input_tokens + excluded.input_tokens, output_tokens = total.output_tokens + excluded.output_tokens, vendor_cost = total.vendor_cost + excluded.vendor_cost, charge_usd = total.charge_usd + excluded.charge_usd, credits_deducted = total.credits_deducted + excluded.credits_deducted, corrected_vendor_cost = total.corrected_vendor_cost + excluded.corrected_vendor_cost, corrected_charge_usd = total.corrected_charge_usd + excluded.corrected_charge_usd, corrected_credits_deducted = total.corrected_credits_deducted + excluded.corrected_credits_deducted, restated_vendor_cost = total.restated_vendor_cost + excluded.restated_vendor_cost, restated_charge_usd = total.restated_charge_usd + excluded.restated_charge_usd, restated_credits_deducted = total.restated_credits_deducted + excluded.restated_credits_deducted),
folded_1 AS (
  INSERT INTO ledger.token_usage_days AS total (bucket, provider_id, status, requests, unpriced_requests, input_tokens, output_tokens, vendor_cost, charge_usd, credits_deducted, corrected_vendor_cost, corrected_charge_usd, corrected_credits_deducted, restated_vendor_cost, restated_charge_usd, restated_credits_deducted)
  SELECT date_bin('86400 seconds', hour, '1970-01-01 00:00:00+00'::timestamptz), provider_id, status, sum(requests), sum(unpriced_requests), sum(input_tokens), sum(output_tokens), sum(vendor_cost), sum(charge_usd), sum(credits_deducted), sum(corrected_vendor_cost), sum(corrected_charge_usd), sum(corrected_credits_deducted), sum(restated_vendor_cost), sum(restated_charge_usd), sum(restated_credits_deducted)
  FROM taken
  GROUP BY 1, provider_id, status ORDER BY 1, provider_id, status
  ON CONFLICT (bucket, provider_id, status) DO UPDATE SET requests = total.requests + excluded.requests, unpriced_requests = total.unpriced_requests + excluded.unpriced_requests, input_tokens = total.input_tokens + excluded.input_tokens, output_tokens = total.output_tokens + excluded.output_tokens, vendor_cost = total.vendor_cost + excluded.vendor_cost, charge_usd = total.charge_usd + excluded.charge_usd, credits_deducted = total.credits_deducted + excluded.credits_deducted, corrected_vendor_cost = total.corrected_vendor_cost + excluded.corrected_vendor_cost, corrected_charge_usd = total.corrected_charge_usd + excluded.corrected_charge_usd, corrected_credits_deducted = total.corrected_credits_deducted + excluded.corrected_credits_deducted, restated_vendor_cost = total.restated_vendor_cost + excluded.restated_vendor_cost, restated_charge_usd = total.restated_charge_usd + excluded.restated_charge_usd, restated_credits_deducted = total.restated_credits_deducted + excluded.restated_credits_deducted),
folded_2 AS (
  INSERT INTO ledger.token_usage_model_days AS total (bucket, provider_id, model_id, status, tier, requests, unpriced_requests, input_tokens, output_tokens, vendor_cost, charge_usd, credits_deducted, corrected_vendor_cost, corrected_charge_usd, corrected_credits_deducted, restated_vendor_cost, restated_charge_usd, restated_credits_deducted)
  SELECT date_bin('86400 seconds', hour, '1970-01-01 00:00:00+00'::timestamptz), provider_id, model_id, status, tier, sum(requests), sum(unpriced_requests), sum(input_tokens), sum(output_tokens), sum(vendor_cost), sum(charge_usd), sum(credits_deducted), sum(corrected_vendor_cost), sum(corrected_charge_usd), sum(corrected_credits_deducted), sum(restated_vendor_cost), sum(restated_charge_usd), sum(restated_credits_deducted)
  FROM taken
  GROUP BY 1, provider_id, model_id, status, tier ORDER BY 1, provider_id, model_id, status, tier
  ON CONFLICT (bucket, provider_id, model_id, status, tier) DO UPDATE SET requests = total.requests + excluded.requests, unpriced_requests = total.unpriced_requests + excluded.unpriced_requests, input_tokens = total.input_tokens + excluded.input_tokens, output_tokens = total.output_tokens + excluded.output_tokens, vendor_cost = total.vendor_cost + excluded.vendor_cost, charge_usd = total.charge_usd + excluded.charge_usd, credits_deducted = total.credits_deducted + excluded.credits_deducted, corrected_vendor_cost = total.corrected_vendor_cost + excluded.corrected_vendor_cost, corrected_charge_usd = total.corrected_charge_usd + excluded.corrected_charge_usd, corrected_credits_deducted = total.corrected_credits_deducted + excluded.corrected_credits_deducted, restated_vendor_cost = total.restated_vendor_cost + excluded.restated_vendor_cost, restated_charge_usd = total.restated_charge_usd + excluded.restated_charge_usd, restated_credits_deducted = total.restated_credits_deducted + excluded.restated_credits_deducted),
folded_3 AS (
  INSERT INTO ledger.token_usage_costs AS total (bucket, provider_id, model_id, status, tier, bin, requests)
  SELECT date_bin('86400 seconds', hour, '1970-01-01 00:00:00+00'::timestamptz), provider_id, model_id, status, tier, bin, count(*)
  FROM taken, unnest(cost_bins) AS bin
  GROUP BY 1, provider_id, model_id, status, tier, bin ORDER BY 1, provider_id, model_id, status, tier, bin
  ON CONFLICT (bucket, provider_id, model_id, status, tier, bin) DO UPDATE SET requests = total.requests + excluded.requests),
folded_4 AS (
  INSERT INTO ledger.token_usage_all_costs AS total (bucket, status, bin, requests)
  SELECT date_bin('86400 seconds', hour, '1970-01-01 00:00:00+00'::timestamptz), status, bin, count(*)
  FROM taken, unnest(cost_bins) AS bin
  GROUP BY 1, status, bin ORDER BY 1, status, bin
  ON CONFLICT (bucket, status, bin) DO UPDATE SET requests = total.requests + excluded.requests)
  SELECT count(*) INTO taken_count FROM taken;
  RETURN taken_count;
END
$function$;
INSERT INTO ledger.token_usage_deltas SELECT date_bin('1 hour', moment, '1970-01-01 00:00:00+00'::timestamptz), provider_id, model_id, status, tier, count(*) FILTER (WHERE part = 'made'), count(*) FILTER (WHERE part = 'made' AND pricing_status = 'unpriced'), sum(input_tokens), sum(output_tokens), coalesce(sum(vendor_cost) FILTER (WHERE part = 'made'), 0), coalesce(sum(charge_usd) FILTER (WHERE part = 'made'), 0), coalesce(sum(credits_deducted) FILTER (WHERE part = 'made'), 0), coalesce(sum(vendor_cost) FILTER (WHERE part = 'corrected'), 0), coalesce(sum(charge_usd) FILTER (WHERE part = 'corrected'), 0), coalesce(sum(credits_deducted) FILTER (WHERE part = 'corrected'), 0), coalesce(sum(vendor_cost) FILTER (WHERE part = 'restated'), 0), coalesce(sum(charge_usd) FILTER (WHERE part = 'restated'), 0), coalesce(sum(credits_deducted) FILTER (WHERE part = 'restated'), 0), coalesce(array_agg(cost_bin) FILTER (WHERE part = 'made' AND cost_bin IS NOT NULL), '{}')
FROM (SELECT created_at AS moment, provider_id, model_id, status, tier,
  CASE WHEN kind = 'usage' THEN 'made' ELSE 'corrected' END AS part, pricing_status,
  input_tokens, output_tokens, vendor_cost, charge_usd, credits_deducted,
  CASE WHEN vendor_cost > 0 THEN ceil(48 * log(vendor_cost::double precision))
    WHEN vendor_cost = 0 THEN -32768 END::smallint AS cost_bin
FROM ledger.token_usage_ledger
UNION ALL
SELECT adjusts_created_at, provider_id, model_id, status, tier, 'restated', pricing_status,
  0, 0, vendor_cost, charge_usd, credits_deducted, NULL
FROM ledger.token_usage_ledger WHERE kind <> 'usage') AS contributed GROUP BY 1, provider_id, model_id, status, tier;

-- drop RunningSums token_usage_deltas
DROP TRIGGER IF EXISTS token_usage_ledger_adds_to_sums ON ledger.token_usage_ledger;
DROP ROUTINE IF EXISTS ledger.fold_token_usage_deltas;
DROP ROUTINE IF EXISTS ledger.append_token_usage_deltas;
DROP TABLE IF EXISTS ledger.token_usage_deltas;
DROP TABLE IF EXISTS ledger.token_usage_hours;
DROP TABLE IF EXISTS ledger.token_usage_days;
DROP TABLE IF EXISTS ledger.token_usage_model_days;
DROP TABLE IF EXISTS ledger.token_usage_costs;
DROP TABLE IF EXISTS ledger.token_usage_all_costs;

-- create RunningSums token_usage_user_deltas
CREATE TABLE IF NOT EXISTS ledger.token_usage_user_deltas (hour timestamptz NOT NULL, user_id uuid NOT NULL, status text NOT NULL, requests bigint NOT NULL, unpriced_requests bigint NOT NULL, input_tokens numeric(38) NOT NULL, output_tokens numeric(38) NOT NULL, vendor_cost numeric(38, 12) NOT NULL, charge_usd numeric(38, 12) NOT NULL, credits_deducted numeric(38) NOT NULL, corrected_vendor_cost numeric(38, 12) NOT NULL, corrected_charge_usd numeric(38, 12) NOT NULL, corrected_credits_deducted numeric(38) NOT NULL, restated_vendor_cost numeric(38, 12) NOT NULL, restated_charge_usd numeric(38, 12) NOT NULL, restated_credits_deducted numeric(38) NOT NULL) WITH (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0);
CREATE INDEX IF NOT EXISTS token_usage_user_deltas_idx ON ledger.token_usage_user_deltas (hour);
CREATE TABLE IF NOT EXISTS ledger.token_usage_user_days (bucket timestamptz NOT NULL, user_id uuid NOT NULL, status text NOT NULL, requests bigint NOT NULL, unpriced_requests bigint NOT NULL, input_tokens numeric(38) NOT NULL, output_tokens numeric(38) NOT NULL, vendor_cost numeric(38, 12) NOT NULL, charge_usd numeric(38, 12) NOT NULL, credits_deducted numeric(38) NOT NULL, corrected_vendor_cost numeric(38, 12) NOT NULL, corrected_charge_usd numeric(38, 12) NOT NULL, corrected_credits_deducted numeric(38) NOT NULL, restated_vendor_cost numeric(38, 12) NOT NULL, restated_charge_usd numeric(38, 12) NOT NULL, restated_credits_deducted numeric(38) NOT NULL, CONSTRAINT token_usage_user_days_pkey PRIMARY KEY (bucket, user_id, status));
CREATE INDEX IF NOT EXISTS token_usage_user_days_user_id_idx ON ledger.token_usage_user_days (user_id, bucket);
CREATE OR REPLACE FUNCTION ledger.append_token_usage_user_deltas() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  INSERT INTO ledger.token_usage_user_deltas
  SELECT date_bin('1 hour', moment, '1970-01-01 00:00:00+00'::timestamptz), user_id, status, count(*) FILTER (WHERE part = 'made'), count(*) FILTER (WHERE part = 'made' AND pricing_status = 'unpriced'), sum(input_tokens), sum(output_tokens), coalesce(sum(vendor_cost) FILTER (WHERE part = 'made'), 0), coalesce(sum(charge_usd) FILTER (WHERE part = 'made'), 0), coalesce(sum(credits_deducted) FILTER (WHERE part = 'made'), 0), coalesce(sum(vendor_cost) FILTER (WHERE part = 'corrected'), 0), coalesce(sum(charge_usd) FILTER (WHERE part = 'corrected'), 0), coalesce(sum(credits_deducted) FILTER (WHERE part = 'corrected'), 0), coalesce(sum(vendor_cost) FILTER (WHERE part = 'restated'), 0), coalesce(sum(charge_usd) FILTER (WHERE part = 'restated'), 0), coalesce(sum(credits_deducted) FILTER (WHERE part = 'restated'), 0)
FROM (SELECT created_at AS moment, user_id, status,
  CASE WHEN kind = 'usage' THEN 'made' ELSE 'corrected' END AS part, pricing_status,
  input_tokens, output_tokens, vendor_cost, charge_usd, credits_deducted
FROM inserted
UNION ALL
SELECT adjusts_created_at, user_id, status, 'restated', pricing_status,
  0, 0, vendor_cost, charge_usd, credits_deducted
FROM inserted WHERE kind <> 'usage') AS contributed GROUP BY 1, user_id, status;
  RETURN NULL;
END
$function$;
REVOKE ALL ON ROUTINE ledger.append_token_usage_user_deltas FROM PUBLIC;
CREATE OR REPLACE TRIGGER token_usage_ledger_adds_to_user_sums AFTER INSERT ON ledger.token_usage_ledger REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION ledger.append_token_usage_user_deltas();
CREATE OR REPLACE FUNCTION ledger.fold_token_usage_user_deltas() RETURNS integer LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  taken_count integer;
BEGIN
  IF NOT pg_try_advisory_xact_lock('ledger.token_usage_user_deltas'::regclass::oid::bigint) THEN
    RETURN 0;
  END IF;
  WITH taken AS MATERIALIZED (
    DELETE FROM ledger.token_usage_user_deltas WHERE ctid = ANY (ARRAY(
      SELECT ctid FROM ledger.token_usage_user_deltas LIMIT 200000))
    RETURNING *),
folded_0 AS (
  INSERT INTO ledger.token_usage_user_days AS total (bucket, user_id, status, requests, unpriced_requests, input_tokens, output_tokens, vendor_cost, charge_usd, credits_deducted, corrected_vendor_cost, corrected_charge_usd, corrected_credits_deducted, restated_vendor_cost, restated_charge_usd, restated_credits_deducted)
  SELECT date_bin('86400 seconds', hour, '1970-01-01 00:00:00+00'::timestamptz), user_id, status, sum(requests), sum(unpriced_requests), sum(input_tokens), sum(output_tokens), sum(vendor_cost), sum(charge_usd), sum(credits_deducted), sum(corrected_vendor_cost), sum(corrected_charge_usd), sum(corrected_credits_deducted), sum(restated_vendor_cost), sum(restated_charge_usd), sum(restated_credits_deducted)
  FROM taken
  GROUP BY 1, user_id, status ORDER BY 1, user_id, status
  ON CONFLICT (bucket, user_id, status) DO UPDATE SET requests = total.requests + excluded.requests, unpriced_requests = total.unpriced_requests + excluded.unpriced_requests, input_tokens = total.input_tokens + excluded.input_tokens, output_tokens = total.output_tokens + excluded.output_tokens, vendor_cost = total.vendor_cost + excluded.vendor_cost, charge_usd = total.charge_usd + excluded.charge_usd, credits_deducted = total.credits_deducted + excluded.credits_deducted, corrected_vendor_cost = total.corrected_vendor_cost + excluded.corrected_vendor_cost, corrected_charge_usd = total.corrected_charge_usd + excluded.corrected_charge_usd, corrected_credits_deducted = total.corrected_credits_deducted + excluded.corrected_credits_deducted, restated_vendor_cost = total.restated_vendor_cost + excluded.restated_vendor_cost, restated_charge_usd = total.restated_charge_usd + excluded.restated_charge_usd, restated_credits_deducted = total.restated_credits_deducted + excluded.restated_credits_deducted)
  SELECT count(*) INTO taken_count FROM taken;
  RETURN taken_count;
END
$function$;
INSERT INTO ledger.token_usage_user_deltas SELECT date_bin('1 hour', moment, '1970-01-01 00:00:00+00'::timestamptz), user_id, status, count(*) FILTER (WHERE part = 'made'), count(*) FILTER (WHERE part = 'made' AND pricing_status = 'unpriced'), sum(input_tokens), sum(output_tokens), coalesce(sum(vendor_cost) FILTER (WHERE part = 'made'), 0), coalesce(sum(charge_usd) FILTER (WHERE part = 'made'), 0), coalesce(sum(credits_deducted) FILTER (WHERE part = 'made'), 0), coalesce(sum(vendor_cost) FILTER (WHERE part = 'corrected'), 0), coalesce(sum(charge_usd) FILTER (WHERE part = 'corrected'), 0), coalesce(sum(credits_deducted) FILTER (WHERE part = 'corrected'), 0), coalesce(sum(vendor_cost) FILTER (WHERE part = 'restated'), 0), coalesce(sum(charge_usd) FILTER (WHERE part = 'restated'), 0), coalesce(sum(credits_deducted) FILTER (WHERE part = 'restated'), 0)
FROM (SELECT created_at AS moment, user_id, status,
  CASE WHEN kind = 'usage' THEN 'made' ELSE 'corrected' END AS part, pricing_status,
  input_tokens, output_tokens, vendor_cost, charge_usd, credits_deducted
FROM ledger.token_usage_ledger
UNION ALL
SELECT adjusts_created_at, user_id, status, 'restated', pricing_status,
  0, 0, vendor_cost, charge_usd, credits_deducted
FROM ledger.token_usage_ledger WHERE kind <> 'usage') AS contributed GROUP BY 1, user_id, status;

-- drop RunningSums token_usage_user_deltas
DROP TRIGGER IF EXISTS token_usage_ledger_adds_to_user_sums ON ledger.token_usage_ledger;
DROP ROUTINE IF EXISTS ledger.fold_token_usage_user_deltas;
DROP ROUTINE IF EXISTS ledger.append_token_usage_user_deltas;
DROP TABLE IF EXISTS ledger.token_usage_user_deltas;
DROP TABLE IF EXISTS ledger.token_usage_user_days;

-- create View my_projects
CREATE OR REPLACE VIEW ledger.my_projects WITH (security_barrier) AS SELECT project_id FROM ledger.role_scopes WHERE role = current_user AND project_id IS NOT NULL;

-- drop View my_projects
DROP VIEW IF EXISTS ledger.my_projects;

-- create Routine scoped_projects
CREATE OR REPLACE FUNCTION ledger.scoped_projects() RETURNS uuid[] LANGUAGE plpgsql STABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  RETURN ARRAY(SELECT project_id FROM ledger.my_projects);
END
$function$;

-- drop Routine scoped_projects
DROP ROUTINE IF EXISTS ledger.scoped_projects;

-- create ExecutionChain execution_ledger
CREATE OR REPLACE FUNCTION ledger.execution_encoding(project_id uuid, sequence bigint, id uuid, user_id uuid, created_at timestamptz, recorded_at timestamptz, duration_ms bigint, run_id text, parent_run_id text, agent_id text, status text, total_cost_cents numeric, payload_digests bytea) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE RETURN E'\\x01'::bytea || uuid_send(project_id) || int8send(sequence) || uuid_send(id) || uuid_send(user_id) || timestamptz_send(created_at) || timestamptz_send(recorded_at) || int8send(duration_ms) || coalesce(int4send(octet_length(convert_to(run_id, 'UTF8'))) || convert_to(run_id, 'UTF8'), E'\\xffffffff'::bytea) || coalesce(int4send(octet_length(convert_to(parent_run_id, 'UTF8'))) || convert_to(parent_run_id, 'UTF8'), E'\\xffffffff'::bytea) || coalesce(int4send(octet_length(convert_to(agent_id, 'UTF8'))) || convert_to(agent_id, 'UTF8'), E'\\xffffffff'::bytea) || coalesce(int4send(octet_length(convert_to(status, 'UTF8'))) || convert_to(status, 'UTF8'), E'\\xffffffff'::bytea) || coalesce(int4send(octet_length(convert_to(trim_scale(total_cost_cents)::text, 'UTF8'))) || convert_to(trim_scale(total_cost_cents)::text, 'UTF8'), E'\\xffffffff'::bytea) || payload_digests;
CREATE OR REPLACE FUNCTION ledger.payload_digests(salt bytea, intent text, input jsonb, output jsonb, cost_json jsonb, execution_trace_json jsonb, error_message text) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE RETURN coalesce(sha256(salt || convert_to(intent, 'UTF8')), E'\\x0000000000000000000000000000000000000000000000000000000000000000'::bytea) || coalesce(sha256(salt || convert_to(input::text, 'UTF8')), E'\\x0000000000000000000000000000000000000000000000000000000000000000'::bytea) || coalesce(sha256(salt || convert_to(output::text, 'UTF8')), E'\\x0000000000000000000000000000000000000000000000000000000000000000'::bytea) || coalesce(sha256(salt || convert_to(cost_json::text, 'UTF8')), E'\\x0000000000000000000000000000000000000000000000000000000000000000'::bytea) || coalesce(sha256(salt || convert_to(execution_trace_json::text, 'UTF8')), E'\\x0000000000000000000000000000000000000000000000000000000000000000'::bytea) || coalesce(sha256(salt || convert_to(error_message, 'UTF8')), E'\\x0000000000000000000000000000000000000000000000000000000000000000'::bytea);
CREATE OR REPLACE FUNCTION ledger.link_execution(hash bytea, head bytea, digest bytea) RETURNS bytea LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $function$
BEGIN
  RETURN pg_catalog.sha256(coalesce(hash, head) OPERATOR(pg_catalog.||) digest);
END
$function$;
CREATE OR REPLACE AGGREGATE ledger.chained_hash(bytea, bytea) (SFUNC = ledger.link_execution, STYPE = bytea);
CREATE OR REPLACE FUNCTION ledger.append_executions(projects uuid[], executions json) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  -- Of random bits that nobody keeps: a salt that is erased cannot be worked out again.
  secret CONSTANT bytea := uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());
  runs ledger.execution_ledger[];
  digested bytea[];
  narrowed CONSTANT uuid := nullif(current_setting('ledger.user_id', true), '')::uuid;
  appended_at timestamptz;
  appended bigint;
BEGIN
  -- Before the heads are locked, as far as it can be: others wait for them.
  SELECT array_agg(run ORDER BY place), array_agg(salt || ledger.payload_digests(salt, (run).intent, (run).input, (run).output, (run).cost_json, (run).execution_trace_json, (run).error_message) ORDER BY place)
  INTO runs, digested
  FROM (
    SELECT run, place, sha256(secret || int8send(place)) AS salt
    FROM (
      SELECT run, row_number() OVER () AS place
      FROM json_populate_recordset(NULL::ledger.execution_ledger, executions) AS run
      WHERE project_id = ANY (projects)
    ) AS sent
    OFFSET 0 -- or a salt would be worked out for each digest
  ) AS salted;
  IF narrowed IS NOT NULL AND EXISTS (SELECT FROM unnest(runs) WHERE user_id <> narrowed) THEN
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format(
      'ledger.user_id narrows this session to user %s, and it records runs of nobody else',
      narrowed);
  END IF;
  -- In the order of their ids, or two who append to the same projects would deadlock.
  INSERT INTO ledger.execution_heads (project_id) SELECT * FROM unnest(projects) AS id ORDER BY id
  ON CONFLICT DO NOTHING;
  PERFORM FROM ledger.execution_heads WHERE project_id = ANY (projects) ORDER BY project_id FOR UPDATE;
  appended_at := clock_timestamp();
  -- Each statement sees what was committed until it began: all that the locks waited for.
  INSERT INTO ledger.execution_ledger (id, run_id, parent_run_id, project_id, user_id, agent_id, intent, input, output, cost_json, execution_trace_json, status, error_message, created_at, salt, payload_digests, recorded_at, sequence,
    hash_version, previous_hash, hash)
  SELECT id, run_id, parent_run_id, project_id, user_id, agent_id, intent, input, output, cost_json, execution_trace_json, status, error_message, created_at, salt, payload_digests, appended_at, sequence, 1,
    coalesce(lag(hash) OVER chain, head_hash), hash
  FROM (
    SELECT *, ledger.chained_hash(head_hash, sha256(ledger.execution_encoding(digested.project_id, digested.sequence, digested.id, digested.user_id, digested.created_at, appended_at, (execution_trace_json ->> 'duration_ms')::bigint, digested.run_id, digested.parent_run_id, digested.agent_id, digested.status, (cost_json ->> 'total')::numeric(24, 12), digested.payload_digests)))
      OVER (PARTITION BY project_id ORDER BY place) AS hash
    FROM (
      SELECT id, run_id, parent_run_id, project_id, user_id, agent_id, intent, input, output, cost_json, execution_trace_json, status, error_message, created_at, substring(unnest FOR 32) AS salt,
        substring(unnest FROM 33) AS payload_digests, ordinality AS place, head_hash,
        head_sequence + row_number() OVER (PARTITION BY project_id ORDER BY ordinality) AS sequence
      FROM ROWS FROM (unnest(runs), unnest(digested)) WITH ORDINALITY AS sent
      JOIN (
        SELECT project_id, sequence AS head_sequence, hash AS head_hash FROM ledger.execution_heads
      ) AS head USING (project_id)
      WHERE NOT EXISTS (SELECT FROM ledger.execution_ledger stored WHERE stored.run_id = sent.run_id)
    ) AS digested
  ) AS hashed
  WINDOW chain AS (PARTITION BY project_id ORDER BY place)
  ORDER BY project_id, place;
  GET DIAGNOSTICS appended = ROW_COUNT;
  RETURN appended;
END
$function$;
REVOKE ALL ON ROUTINE ledger.append_executions FROM PUBLIC;
CREATE OR REPLACE FUNCTION ledger.extend_chain() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  stray record;
BEGIN
  IF NOT EXISTS (SELECT FROM inserted) THEN
    RETURN NULL;
  END IF;
  SELECT run_id, project_id, sequence, created_at, is_timely INTO stray
  FROM (
    SELECT added.run_id, added.project_id, added.sequence, added.previous_hash, added.created_at,
      added.created_at <= added.recorded_at + INTERVAL '24 hours'
        AND added.recorded_at < '9999-01-01 00:00:00+00' AS is_timely,
      added.salt IS NOT NULL AND added.hash = sha256(added.previous_hash || sha256(ledger.execution_encoding(added.project_id, added.sequence, added.id, added.user_id, added.created_at, added.recorded_at, added.duration_ms, added.run_id, added.parent_run_id, added.agent_id, added.status, added.total_cost_cents, added.payload_digests))) AS is_hashed,
      coalesce(lag(added.sequence) OVER chain, head.sequence) AS sequence_before,
      coalesce(lag(added.hash) OVER chain, head.hash) AS hash_before
    FROM inserted added LEFT JOIN ledger.execution_heads head ON head.project_id = added.project_id
    WINDOW chain AS (PARTITION BY added.project_id ORDER BY added.sequence)
  ) AS added
  WHERE (sequence = sequence_before + 1 AND previous_hash = hash_before AND is_hashed
    AND is_timely) IS NOT TRUE
  LIMIT 1;
  IF NOT stray.is_timely THEN
    RAISE EXCEPTION USING ERRCODE = 'LG005', MESSAGE = format(
      'run %L ends at %s, more than 24 hours after it is recorded; see what clock'
      ' that is by', stray.run_id, stray.created_at);
  ELSIF FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE = format(
      'INSERT of run %L into ledger.execution_ledger is refused: sequence %s does not follow the head of'
      ' the chain of project %s; rows are appended by ledger.append_executions()',
      stray.run_id, stray.sequence, stray.project_id);
  END IF;
  UPDATE ledger.execution_heads head SET sequence = last.sequence, hash = last.hash
  FROM (
    SELECT project_id, sequence, hash FROM inserted
    WHERE (project_id, sequence) IN (SELECT project_id, max(sequence) FROM inserted GROUP BY 1)
  ) AS last
  WHERE head.project_id = last.project_id;
  RETURN NULL;
END
$function$;
REVOKE ALL ON ROUTINE ledger.extend_chain FROM PUBLIC;
CREATE OR REPLACE FUNCTION ledger.guard_head() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  IF NEW.project_id = OLD.project_id AND (
    (NEW.erasures, NEW.erasures_hash) = (OLD.erasures, OLD.erasures_hash)
    AND NEW.sequence > OLD.sequence AND EXISTS (
      SELECT FROM ledger.execution_ledger WHERE project_id = NEW.project_id
        AND sequence = NEW.sequence AND hash = NEW.hash)
    OR (NEW.sequence, NEW.hash) = (OLD.sequence, OLD.hash)
    AND NEW.erasures = OLD.erasures + 1 AND EXISTS (
      SELECT FROM ledger.execution_erasures WHERE project_id = NEW.project_id
        AND number = NEW.erasures AND hash = NEW.erasures_hash))
  THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE =
    'UPDATE of ledger.execution_heads is refused: a head moves on to a row, or an erasure, that was'
    ' appended';
END
$function$;
CREATE OR REPLACE FUNCTION ledger.begin_head() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  IF (NEW.sequence, NEW.hash, NEW.erasures, NEW.erasures_hash)
    = (0, E'\\x0000000000000000000000000000000000000000000000000000000000000000'::bytea, 0, E'\\x0000000000000000000000000000000000000000000000000000000000000000'::bytea)
  THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE =
    'INSERT into ledger.execution_heads is refused: a chain begins at nothing, and moves on with its rows';
END
$function$;
CREATE OR REPLACE FUNCTION ledger.guard_execution() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  erased ledger.execution_ledger := OLD;
BEGIN
  erased.salt := NULL;
  erased.intent := '[erased]';
  erased.input := '{}'::jsonb;
  erased.output := CASE WHEN OLD.output IS NOT NULL THEN '{}'::jsonb END;
  erased.cost_json := jsonb_build_object('breakdown', '{}'::jsonb, 'total', OLD.cost_json -> 'total');
  erased.execution_trace_json := jsonb_build_object('steps', '[]'::jsonb, 'duration_ms', OLD.execution_trace_json -> 'duration_ms');
  erased.error_message := CASE WHEN OLD.error_message IS NOT NULL THEN '[erased]' END;
  -- Worked out anew after this trigger.
  erased.total_cost_cents := NEW.total_cost_cents;
  erased.duration_ms := NEW.duration_ms;
  -- By their images: 1.500 is 1.5 to jsonb, and another text.
  IF OLD.salt IS NOT NULL AND NEW *= erased AND EXISTS (
    SELECT FROM ledger.execution_erasures WHERE project_id = OLD.project_id AND sequence = OLD.sequence)
  THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE =
    'UPDATE of ledger.execution_ledger is refused: its rows are added and never changed; payloads are'
    ' erased by ledger.erase_execution()';
END
$function$;
CREATE OR REPLACE FUNCTION ledger.link_erasure() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  last ledger.execution_erasures;
BEGIN
  PERFORM FROM ledger.execution_heads WHERE project_id = NEW.project_id FOR UPDATE;
  -- What was committed while the lock was waited for, and what this statement has put in.
  SELECT * INTO last FROM ledger.execution_erasures WHERE project_id = NEW.project_id
  ORDER BY number DESC LIMIT 1;
  NEW.number := coalesce(last.number, 0) + 1;
  NEW.erased_at := clock_timestamp();
  NEW.erased_by := SESSION_USER;
  NEW.hash := sha256(coalesce(last.hash, E'\\x0000000000000000000000000000000000000000000000000000000000000000'::bytea) || sha256(E'\\x02'::bytea || uuid_send(NEW.project_id) || int8send(NEW.number) || int8send(NEW.sequence) || timestamptz_send(NEW.erased_at) || coalesce(int4send(octet_length(convert_to(NEW.erased_by, 'UTF8'))) || convert_to(NEW.erased_by, 'UTF8'), E'\\xffffffff'::bytea) || coalesce(int4send(octet_length(convert_to(NEW.reason, 'UTF8'))) || convert_to(NEW.reason, 'UTF8'), E'\\xffffffff'::bytea)));
  RETURN NEW;
END
$function$;
REVOKE ALL ON ROUTINE ledger.link_erasure FROM PUBLIC;
CREATE OR REPLACE FUNCTION ledger.carry_out_erasure() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  UPDATE ledger.execution_ledger AS erased SET salt = NULL,
    intent = '[erased]',
    input = '{}'::jsonb,
    output = CASE WHEN erased.output IS NOT NULL THEN '{}'::jsonb END,
    cost_json = jsonb_build_object('breakdown', '{}'::jsonb, 'total', erased.cost_json -> 'total'),
    execution_trace_json = jsonb_build_object('steps', '[]'::jsonb, 'duration_ms', erased.execution_trace_json -> 'duration_ms'),
    error_message = CASE WHEN erased.error_message IS NOT NULL THEN '[erased]' END
  WHERE erased.project_id = NEW.project_id AND erased.sequence = NEW.sequence;
  UPDATE ledger.execution_heads SET erasures = NEW.number, erasures_hash = NEW.hash
  WHERE project_id = NEW.project_id;
  RETURN NULL;
END
$function$;
REVOKE ALL ON ROUTINE ledger.carry_out_erasure FROM PUBLIC;
CREATE OR REPLACE FUNCTION ledger.erase_execution(run text, reason text) RETURNS SETOF ledger.execution_erasures LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  narrowed CONSTANT uuid := nullif(current_setting('ledger.user_id', true), '')::uuid;
BEGIN
  INSERT INTO ledger.execution_erasures (project_id, sequence, reason)
  SELECT project_id, sequence, erase_execution.reason FROM ledger.execution_ledger
  WHERE run_id = run AND (narrowed IS NULL OR user_id = narrowed)
  ON CONFLICT (project_id, sequence) DO NOTHING;
  -- Where the record came without the deed, as by a replay.
  IF EXISTS (
    SELECT FROM ledger.execution_ledger JOIN ledger.execution_erasures USING (project_id, sequence)
    WHERE run_id = run AND salt IS NOT NULL AND (narrowed IS NULL OR user_id = narrowed))
  THEN
    UPDATE ledger.execution_ledger AS erased SET salt = NULL,
    intent = '[erased]',
    input = '{}'::jsonb,
    output = CASE WHEN erased.output IS NOT NULL THEN '{}'::jsonb END,
    cost_json = jsonb_build_object('breakdown', '{}'::jsonb, 'total', erased.cost_json -> 'total'),
    execution_trace_json = jsonb_build_object('steps', '[]'::jsonb, 'duration_ms', erased.execution_trace_json -> 'duration_ms'),
    error_message = CASE WHEN erased.error_message IS NOT NULL THEN '[erased]' END WHERE run_id = run AND salt IS NOT NULL;
  END IF;
  RETURN QUERY SELECT erasure.* FROM ledger.execution_erasures erasure
  JOIN ledger.execution_ledger erased USING (project_id, sequence)
  WHERE run_id = run AND (narrowed IS NULL OR user_id = narrowed);
END
$function$;
REVOKE ALL ON ROUTINE ledger.erase_execution FROM PUBLIC;
CREATE OR REPLACE FUNCTION ledger.executions_by_run(run_ids text[]) RETURNS SETOF ledger.execution_ledger LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
SELECT stored.* FROM unnest(run_ids) AS given(run_id)
CROSS JOIN LATERAL (
  SELECT * FROM ledger.execution_ledger s WHERE s.run_id = given.run_id OFFSET 0) AS stored
WHERE stored.user_id = coalesce(nullif(current_setting('ledger.user_id', true), '')::uuid, stored.user_id)
$function$;
REVOKE ALL ON ROUTINE ledger.executions_by_run FROM PUBLIC;
CREATE OR REPLACE TRIGGER execution_ledger_extends_chain AFTER INSERT ON ledger.execution_ledger REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION ledger.extend_chain();
CREATE OR REPLACE TRIGGER execution_heads_begin_at_nothing BEFORE INSERT ON ledger.execution_heads FOR EACH ROW EXECUTE FUNCTION ledger.begin_head();
CREATE OR REPLACE TRIGGER execution_erasures_are_linked BEFORE INSERT ON ledger.execution_erasures FOR EACH ROW EXECUTE FUNCTION ledger.link_erasure();
CREATE OR REPLACE TRIGGER execution_erasures_are_carried_out AFTER INSERT ON ledger.execution_erasures FOR EACH ROW EXECUTE FUNCTION ledger.carry_out_erasure();

-- drop ExecutionChain execution_ledger
DROP TRIGGER IF EXISTS execution_ledger_extends_chain ON ledger.execution_ledger;
DROP TRIGGER IF EXISTS execution_heads_begin_at_nothing ON ledger.execution_heads;
DROP TRIGGER IF EXISTS execution_erasures_are_linked ON ledger.execution_erasures;
DROP TRIGGER IF EXISTS execution_erasures_are_carried_out ON ledger.execution_erasures;
DROP ROUTINE IF EXISTS ledger.executions_by_run;
DROP ROUTINE IF EXISTS ledger.erase_execution;
DROP ROUTINE IF EXISTS ledger.carry_out_erasure;
DROP ROUTINE IF EXISTS ledger.link_erasure;
DROP ROUTINE IF EXISTS ledger.guard_execution;
DROP ROUTINE IF EXISTS ledger.begin_head;
DROP ROUTINE IF EXISTS ledger.guard_head;
DROP ROUTINE IF EXISTS ledger.extend_chain;
DROP ROUTINE IF EXISTS ledger.append_executions;
DROP AGGREGATE IF EXISTS ledger.chained_hash(bytea, bytea);
DROP ROUTINE IF EXISTS ledger.link_execution;
DROP ROUTINE IF EXISTS ledger.payload_digests;
DROP ROUTINE IF EXISTS ledger.execution_encoding;

-- create AppendOnly execution_ledger
CREATE OR REPLACE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE = format(
    '%s of ledger.%I is refused: its rows are added and never changed; a correction is a new row',
    TG_OP, TG_TABLE_NAME);
END
$function$;
CREATE OR REPLACE FUNCTION ledger.refuse_no_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  IF NOT EXISTS (SELECT FROM updated) THEN
    RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE = format(
      'UPDATE of ledger.%I is refused: its rows are added and never changed', TG_TABLE_NAME);
  END IF;
  RETURN NULL;
END
$function$;
CREATE OR REPLACE TRIGGER execution_ledger_keeps_rows BEFORE DELETE ON ledger.execution_ledger FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE ledger.execution_ledger ENABLE ALWAYS TRIGGER execution_ledger_keeps_rows;
CREATE OR REPLACE TRIGGER execution_ledger_refuses_change BEFORE DELETE ON ledger.execution_ledger FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE ledger.execution_ledger ENABLE ALWAYS TRIGGER execution_ledger_refuses_change;
CREATE OR REPLACE TRIGGER execution_ledger_refuses_truncate BEFORE TRUNCATE ON ledger.execution_ledger FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE ledger.execution_ledger ENABLE ALWAYS TRIGGER execution_ledger_refuses_truncate;
CREATE OR REPLACE TRIGGER execution_ledger_guards_rows BEFORE UPDATE ON ledger.execution_ledger FOR EACH ROW EXECUTE FUNCTION ledger.guard_execution();
ALTER TABLE ledger.execution_ledger ENABLE ALWAYS TRIGGER execution_ledger_guards_rows;
CREATE OR REPLACE TRIGGER execution_ledger_refuses_no_change AFTER UPDATE ON ledger.execution_ledger REFERENCING NEW TABLE AS updated FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_no_change();
ALTER TABLE ledger.execution_ledger ENABLE ALWAYS TRIGGER execution_ledger_refuses_no_change;

-- drop AppendOnly execution_ledger
DROP TRIGGER IF EXISTS execution_ledger_keeps_rows ON ledger.execution_ledger;
DROP TRIGGER IF EXISTS execution_ledger_refuses_change ON ledger.execution_ledger;
DROP TRIGGER IF EXISTS execution_ledger_refuses_truncate ON ledger.execution_ledger;
DROP TRIGGER IF EXISTS execution_ledger_guards_rows ON ledger.execution_ledger;
DROP TRIGGER IF EXISTS execution_ledger_refuses_no_change ON ledger.execution_ledger;
-- (its rows are run)
SELECT 'DROP FUNCTION IF EXISTS ledger.refuse_change()' WHERE NOT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = to_regprocedure('ledger.refuse_change()'));
-- (its rows are run)
SELECT 'DROP FUNCTION IF EXISTS ledger.refuse_no_change()' WHERE NOT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = to_regprocedure('ledger.refuse_no_change()'));

-- create AppendOnly execution_heads
CREATE OR REPLACE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE = format(
    '%s of ledger.%I is refused: its rows are added and never changed; a correction is a new row',
    TG_OP, TG_TABLE_NAME);
END
$function$;
CREATE OR REPLACE FUNCTION ledger.refuse_no_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  IF NOT EXISTS (SELECT FROM updated) THEN
    RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE = format(
      'UPDATE of ledger.%I is refused: its rows are added and never changed', TG_TABLE_NAME);
  END IF;
  RETURN NULL;
END
$function$;
CREATE OR REPLACE TRIGGER execution_heads_keeps_rows BEFORE DELETE ON ledger.execution_heads FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE ledger.execution_heads ENABLE ALWAYS TRIGGER execution_heads_keeps_rows;
CREATE OR REPLACE TRIGGER execution_heads_refuses_change BEFORE DELETE ON ledger.execution_heads FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE ledger.execution_heads ENABLE ALWAYS TRIGGER execution_heads_refuses_change;
CREATE OR REPLACE TRIGGER execution_heads_refuses_truncate BEFORE TRUNCATE ON ledger.execution_heads FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE ledger.execution_heads ENABLE ALWAYS TRIGGER execution_heads_refuses_truncate;
CREATE OR REPLACE TRIGGER execution_heads_guards_rows BEFORE UPDATE ON ledger.execution_heads FOR EACH ROW EXECUTE FUNCTION ledger.guard_head();
ALTER TABLE ledger.execution_heads ENABLE ALWAYS TRIGGER execution_heads_guards_rows;
CREATE OR REPLACE TRIGGER execution_heads_refuses_no_change AFTER UPDATE ON ledger.execution_heads REFERENCING NEW TABLE AS updated FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_no_change();
ALTER TABLE ledger.execution_heads ENABLE ALWAYS TRIGGER execution_heads_refuses_no_change;

-- drop AppendOnly execution_heads
DROP TRIGGER IF EXISTS execution_heads_keeps_rows ON ledger.execution_heads;
DROP TRIGGER IF EXISTS execution_heads_refuses_change ON ledger.execution_heads;
DROP TRIGGER IF EXISTS execution_heads_refuses_truncate ON ledger.execution_heads;
DROP TRIGGER IF EXISTS execution_heads_guards_rows ON ledger.execution_heads;
DROP TRIGGER IF EXISTS execution_heads_refuses_no_change ON ledger.execution_heads;
-- (its rows are run)
SELECT 'DROP FUNCTION IF EXISTS ledger.refuse_change()' WHERE NOT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = to_regprocedure('ledger.refuse_change()'));
-- (its rows are run)
SELECT 'DROP FUNCTION IF EXISTS ledger.refuse_no_change()' WHERE NOT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = to_regprocedure('ledger.refuse_no_change()'));

-- create AppendOnly execution_erasures
CREATE OR REPLACE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE = format(
    '%s of ledger.%I is refused: its rows are added and never changed; a correction is a new row',
    TG_OP, TG_TABLE_NAME);
END
$function$;
CREATE OR REPLACE TRIGGER execution_erasures_keeps_rows BEFORE UPDATE OR DELETE ON ledger.execution_erasures FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE ledger.execution_erasures ENABLE ALWAYS TRIGGER execution_erasures_keeps_rows;
CREATE OR REPLACE TRIGGER execution_erasures_refuses_change BEFORE UPDATE OR DELETE ON ledger.execution_erasures FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE ledger.execution_erasures ENABLE ALWAYS TRIGGER execution_erasures_refuses_change;
CREATE OR REPLACE TRIGGER execution_erasures_refuses_truncate BEFORE TRUNCATE ON ledger.execution_erasures FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE ledger.execution_erasures ENABLE ALWAYS TRIGGER execution_erasures_refuses_truncate;

-- drop AppendOnly execution_erasures
DROP TRIGGER IF EXISTS execution_erasures_keeps_rows ON ledger.execution_erasures;
DROP TRIGGER IF EXISTS execution_erasures_refuses_change ON ledger.execution_erasures;
DROP TRIGGER IF EXISTS execution_erasures_refuses_truncate ON ledger.execution_erasures;
-- (its rows are run)
SELECT 'DROP FUNCTION IF EXISTS ledger.refuse_change()' WHERE NOT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = to_regprocedure('ledger.refuse_change()'));

-- create RowPolicy execution_ledger
ALTER TABLE ledger.execution_ledger ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS of_users ON ledger.execution_ledger;
CREATE POLICY of_users ON ledger.execution_ledger FOR SELECT USING (user_id = ANY ((SELECT ledger.scoped_users())::uuid[]));

-- drop RowPolicy execution_ledger
DROP POLICY IF EXISTS of_users ON ledger.execution_ledger;
ALTER TABLE ledger.execution_ledger DISABLE ROW LEVEL SECURITY;

-- create RowPolicy execution_heads
ALTER TABLE ledger.execution_heads ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS of_projects ON ledger.execution_heads;
CREATE POLICY of_projects ON ledger.execution_heads FOR SELECT USING ((SELECT ledger.sees_all()) OR (project_id = ANY ((SELECT ledger.scoped_projects())::uuid[]) AND (SELECT nullif(current_setting('ledger.user_id', true), '')::uuid) IS NULL));

-- drop RowPolicy execution_heads
DROP POLICY IF EXISTS of_projects ON ledger.execution_heads;
ALTER TABLE ledger.execution_heads DISABLE ROW LEVEL SECURITY;

-- create RowPolicy execution_erasures
ALTER TABLE ledger.execution_erasures ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS of_projects ON ledger.execution_erasures;
CREATE POLICY of_projects ON ledger.execution_erasures FOR SELECT USING ((SELECT ledger.sees_all()) OR (project_id = ANY ((SELECT ledger.scoped_projects())::uuid[]) AND (SELECT nullif(current_setting('ledger.user_id', true), '')::uuid) IS NULL));

-- drop RowPolicy execution_erasures
DROP POLICY IF EXISTS of_projects ON ledger.execution_erasures;
ALTER TABLE ledger.execution_erasures DISABLE ROW LEVEL SECURITY;

-- create RunningSums execution_deltas
CREATE TABLE IF NOT EXISTS ledger.execution_deltas (hour timestamptz NOT NULL, project_id uuid NOT NULL, agent_id text NOT NULL, status text NOT NULL, executions bigint NOT NULL, total_cost_cents numeric(38, 12) NOT NULL, least_cost_cents numeric(24, 12) NOT NULL, greatest_cost_cents numeric(24, 12) NOT NULL, duration_ms numeric(38) NOT NULL, cost_bins smallint[] NOT NULL) WITH (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0);
CREATE INDEX IF NOT EXISTS execution_deltas_idx ON ledger.execution_deltas (hour);
CREATE TABLE IF NOT EXISTS ledger.execution_days (bucket timestamptz NOT NULL, project_id uuid NOT NULL, agent_id text NOT NULL, status text NOT NULL, executions bigint NOT NULL, total_cost_cents numeric(38, 12) NOT NULL, least_cost_cents numeric(24, 12) NOT NULL, greatest_cost_cents numeric(24, 12) NOT NULL, duration_ms numeric(38) NOT NULL, CONSTRAINT execution_days_pkey PRIMARY KEY (agent_id, bucket, project_id, status));
CREATE INDEX IF NOT EXISTS execution_days_project_id_idx ON ledger.execution_days (project_id, bucket);
CREATE TABLE IF NOT EXISTS ledger.execution_costs (bucket timestamptz NOT NULL, project_id uuid NOT NULL, agent_id text NOT NULL, status text NOT NULL, bin smallint NOT NULL, executions bigint NOT NULL, CONSTRAINT execution_costs_pkey PRIMARY KEY (agent_id, bucket, project_id, status, bin));
CREATE INDEX IF NOT EXISTS execution_costs_project_id_idx ON ledger.execution_costs (project_id, bucket);
ALTER TABLE ledger.execution_deltas ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS of_projects ON ledger.execution_deltas;
CREATE POLICY of_projects ON ledger.execution_deltas FOR SELECT USING ((SELECT ledger.sees_all()) OR (project_id = ANY ((SELECT ledger.scoped_projects())::uuid[]) AND (SELECT nullif(current_setting('ledger.user_id', true), '')::uuid) IS NULL));
ALTER TABLE ledger.execution_days ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS of_projects ON ledger.execution_days;
CREATE POLICY of_projects ON ledger.execution_days FOR SELECT USING ((SELECT ledger.sees_all()) OR (project_id = ANY ((SELECT ledger.scoped_projects())::uuid[]) AND (SELECT nullif(current_setting('ledger.user_id', true), '')::uuid) IS NULL));
ALTER TABLE ledger.execution_costs ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS of_projects ON ledger.execution_costs;
CREATE POLICY of_projects ON ledger.execution_costs FOR SELECT USING ((SELECT ledger.sees_all()) OR (project_id = ANY ((SELECT ledger.scoped_projects())::uuid[]) AND (SELECT nullif(current_setting('ledger.user_id', true), '')::uuid) IS NULL));
CREATE OR REPLACE FUNCTION ledger.append_execution_deltas() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  INSERT INTO ledger.execution_deltas
  SELECT date_bin('1 hour', moment, '1970-01-01 00:00:00+00'::timestamptz), project_id, agent_id, status, count(*), sum(total_cost_cents), min(total_cost_cents), max(total_cost_cents), sum(duration_ms), array_agg(cost_bin)
FROM (SELECT created_at AS moment, project_id, agent_id, status,
  total_cost_cents, duration_ms,
  CASE WHEN total_cost_cents > 0 THEN ceil(48 * log(total_cost_cents::double precision)) ELSE -32768 END::smallint AS cost_bin
FROM inserted) AS contributed GROUP BY 1, project_id, agent_id, status;
  RETURN NULL;
END
$function$;
REVOKE ALL ON ROUTINE ledger.append_execution_deltas FROM PUBLIC;
CREATE OR REPLACE TRIGGER execution_ledger_adds_to_sums AFTER INSERT ON ledger.execution_ledger REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION ledger.append_execution_deltas();
CREATE OR REPLACE FUNCTION ledger.fold_execution_deltas() RETURNS integer LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  taken_count integer;
BEGIN
  IF NOT pg_try_advisory_xact_lock('ledger.execution_deltas'::regclass::oid::bigint) THEN
    RETURN 0;
  END IF;
  WITH taken AS MATERIALIZED (
    DELETE FROM ledger.execution_deltas WHERE ctid = ANY (ARRAY(
      SELECT ctid FROM ledger.execution_deltas LIMIT 200000))
    RETURNING *),
folded_0 AS (
  INSERT INTO ledger.execution_days AS total (bucket, project_id, agent_id, status, executions, total_cost_cents, least_cost_cents, greatest_cost_cents, duration_ms)
  SELECT date_bin('86400 seconds', hour, '1970-01-01 00:00:00+00'::timestamptz), project_id, agent_id, status, sum(executions), sum(total_cost_cents), min(least_cost_cents), max(greatest_cost_cents), sum(duration_ms)
  FROM taken
  GROUP BY 1, project_id, agent_id, status ORDER BY 1, project_id, agent_id, status
  ON CONFLICT (bucket, project_id, agent_id, status) DO UPDATE SET executions = total.executions + excluded.executions, total_cost_cents = total.total_cost_cents + excluded.total_cost_cents, least_cost_cents = least(total.least_cost_cents, excluded.least_cost_cents), greatest_cost_cents = greatest(total.greatest_cost_cents, excluded.greatest_cost_cents), duration_ms = total.duration_ms + excluded.duration_ms),
folded_1 AS (
  INSERT INTO ledger.execution_costs AS total (bucket, project_id, agent_id, status, bin, executions)
  SELECT date_bin('86400 seconds', hour, '1970-01-01 00:00:00+00'::timestamptz), project_id, agent_id, status, bin, count(*)
  FROM taken, unnest(cost_bins) AS bin
  GROUP BY 1, project_id, agent_id, status, bin ORDER BY 1, project_id, agent_id, status, bin
  ON CONFLICT (bucket, project_id, agent_id, status, bin) DO UPDATE SET executions = total.executions + excluded.executions)
  SELECT count(*) INTO taken_count FROM taken;
  RETURN taken_count;
END
$function$;
INSERT INTO ledger.execution_deltas SELECT date_bin('1 hour', moment, '1970-01-01 00:00:00+00'::timestamptz), project_id, agent_id, status, count(*), sum(total_cost_cents), min(total_cost_cents), max(total_cost_cents), sum(duration_ms), array_agg(cost_bin)
FROM (SELECT created_at AS moment, project_id, agent_id, status,
  total_cost_cents, duration_ms,
  CASE WHEN total_cost_cents > 0 THEN ceil(48 * log(total_cost_cents::double precision)) ELSE -32768 END::smallint AS cost_bin
FROM ledger.execution_ledger) AS contributed GROUP BY 1, project_id, agent_id, status;

-- drop RunningSums execution_deltas
DROP TRIGGER IF EXISTS execution_ledger_adds_to_sums ON ledger.execution_ledger;
DROP ROUTINE IF EXISTS ledger.fold_execution_deltas;
DROP ROUTINE IF EXISTS ledger.append_execution_deltas;
DROP TABLE IF EXISTS ledger.execution_deltas;
DROP TABLE IF EXISTS ledger.execution_days;
DROP TABLE IF EXISTS ledger.execution_costs;

-- create KeptRows projects
CREATE OR REPLACE FUNCTION ledger.keep_rows() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  is_referred_to boolean;
BEGIN
  IF TG_OP = 'UPDATE' AND NEW.id = OLD.id THEN
    RETURN NULL;
  END IF;
  FOR place IN 0 .. TG_NARGS - 1 BY 2 LOOP
    IF TG_OP = 'TRUNCATE' THEN
      EXECUTE format('SELECT EXISTS (SELECT FROM ledger.%I WHERE %I IS NOT NULL)',
        TG_ARGV[place], TG_ARGV[place + 1]) INTO is_referred_to;
    ELSE
      EXECUTE format('SELECT EXISTS (SELECT FROM ledger.%I WHERE %I = $1)',
        TG_ARGV[place], TG_ARGV[place + 1]) INTO is_referred_to USING OLD.id;
    END IF;
    IF is_referred_to THEN
      RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE = format(
        '%s of ledger.%I is refused: rows of ledger.%I refer to it, and they are never changed',
        TG_OP, TG_TABLE_NAME, TG_ARGV[place]);
    END IF;
  END LOOP;
  IF current_setting('session_replication_role') = 'replica'
    AND current_setting('transaction_isolation') <> 'read committed'
  THEN
    RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE = format(
      '%s of ledger.%I is refused: a session that replays for a replica at %s does not see what'
      ' was committed meanwhile, and refers to it', TG_OP, TG_TABLE_NAME,
      current_setting('transaction_isolation'));
  END IF;
  RETURN NULL;
END
$function$;
REVOKE ALL ON ROUTINE ledger.keep_rows FROM PUBLIC;
CREATE OR REPLACE TRIGGER projects_keeps_rows AFTER DELETE OR UPDATE OF id ON ledger.projects FOR EACH ROW EXECUTE FUNCTION ledger.keep_rows('token_usage_ledger', 'project_id', 'execution_ledger', 'project_id', 'execution_heads', 'project_id');
ALTER TABLE ledger.projects ENABLE ALWAYS TRIGGER projects_keeps_rows;
CREATE OR REPLACE TRIGGER projects_refuses_truncate BEFORE TRUNCATE ON ledger.projects FOR EACH STATEMENT EXECUTE FUNCTION ledger.keep_rows('token_usage_ledger', 'project_id', 'execution_ledger', 'project_id', 'execution_heads', 'project_id');
ALTER TABLE ledger.projects ENABLE ALWAYS TRIGGER projects_refuses_truncate;

-- drop KeptRows projects
DROP TRIGGER IF EXISTS projects_keeps_rows ON ledger.projects;
DROP TRIGGER IF EXISTS projects_refuses_truncate ON ledger.projects;
-- (its rows are run)
SELECT 'DROP FUNCTION IF EXISTS ledger.keep_rows()' WHERE NOT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = to_regprocedure('ledger.keep_rows()'));

-- create KeptRows providers
CREATE OR REPLACE FUNCTION ledger.keep_rows() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  is_referred_to boolean;
BEGIN
  IF TG_OP = 'UPDATE' AND NEW.id = OLD.id THEN
    RETURN NULL;
  END IF;
  FOR place IN 0 .. TG_NARGS - 1 BY 2 LOOP
    IF TG_OP = 'TRUNCATE' THEN
      EXECUTE format('SELECT EXISTS (SELECT FROM ledger.%I WHERE %I IS NOT NULL)',
        TG_ARGV[place], TG_ARGV[place + 1]) INTO is_referred_to;
    ELSE
      EXECUTE format('SELECT EXISTS (SELECT FROM ledger.%I WHERE %I = $1)',
        TG_ARGV[place], TG_ARGV[place + 1]) INTO is_referred_to USING OLD.id;
    END IF;
    IF is_referred_to THEN
      RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE = format(
        '%s of ledger.%I is refused: rows of ledger.%I refer to it, and they are never changed',
        TG_OP, TG_TABLE_NAME, TG_ARGV[place]);
    END IF;
  END LOOP;
  IF current_setting('session_replication_role') = 'replica'
    AND current_setting('transaction_isolation') <> 'read committed'
  THEN
    RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE = format(
      '%s of ledger.%I is refused: a session that replays for a replica at %s does not see what'
      ' was committed meanwhile, and refers to it', TG_OP, TG_TABLE_NAME,
      current_setting('transaction_isolation'));
  END IF;
  RETURN NULL;
END
$function$;
REVOKE ALL ON ROUTINE ledger.keep_rows FROM PUBLIC;
CREATE OR REPLACE TRIGGER providers_keeps_rows AFTER DELETE OR UPDATE OF id ON ledger.providers FOR EACH ROW EXECUTE FUNCTION ledger.keep_rows('model_prices', 'provider_id', 'token_usage_ledger', 'provider_id');
ALTER TABLE ledger.providers ENABLE ALWAYS TRIGGER providers_keeps_rows;
CREATE OR REPLACE TRIGGER providers_refuses_truncate BEFORE TRUNCATE ON ledger.providers FOR EACH STATEMENT EXECUTE FUNCTION ledger.keep_rows('model_prices', 'provider_id', 'token_usage_ledger', 'provider_id');
ALTER TABLE ledger.providers ENABLE ALWAYS TRIGGER providers_refuses_truncate;

-- drop KeptRows providers
DROP TRIGGER IF EXISTS providers_keeps_rows ON ledger.providers;
DROP TRIGGER IF EXISTS providers_refuses_truncate ON ledger.providers;
-- (its rows are run)
SELECT 'DROP FUNCTION IF EXISTS ledger.keep_rows()' WHERE NOT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = to_regprocedure('ledger.keep_rows()'));

-- create KeptRows users
CREATE OR REPLACE FUNCTION ledger.keep_rows() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  is_referred_to boolean;
BEGIN
  IF TG_OP = 'UPDATE' AND NEW.id = OLD.id THEN
    RETURN NULL;
  END IF;
  FOR place IN 0 .. TG_NARGS - 1 BY 2 LOOP
    IF TG_OP = 'TRUNCATE' THEN
      EXECUTE format('SELECT EXISTS (SELECT FROM ledger.%I WHERE %I IS NOT NULL)',
        TG_ARGV[place], TG_ARGV[place + 1]) INTO is_referred_to;
    ELSE
      EXECUTE format('SELECT EXISTS (SELECT FROM ledger.%I WHERE %I = $1)',
        TG_ARGV[place], TG_ARGV[place + 1]) INTO is_referred_to USING OLD.id;
    END IF;
    IF is_referred_to THEN
      RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE = format(
        '%s of ledger.%I is refused: rows of ledger.%I refer to it, and they are never changed',
        TG_OP, TG_TABLE_NAME, TG_ARGV[place]);
    END IF;
  END LOOP;
  IF current_setting('session_replication_role') = 'replica'
    AND current_setting('transaction_isolation') <> 'read committed'
  THEN
    RAISE EXCEPTION USING ERRCODE = 'LG006', MESSAGE = format(
      '%s of ledger.%I is refused: a session that replays for a replica at %s does not see what'
      ' was committed meanwhile, and refers to it', TG_OP, TG_TABLE_NAME,
      current_setting('transaction_isolation'));
  END IF;
  RETURN NULL;
END
$function$;
REVOKE ALL ON ROUTINE ledger.keep_rows FROM PUBLIC;
CREATE OR REPLACE TRIGGER users_keeps_rows AFTER DELETE OR UPDATE OF id ON ledger.users FOR EACH ROW EXECUTE FUNCTION ledger.keep_rows('token_usage_ledger', 'user_id', 'execution_ledger', 'user_id');
ALTER TABLE ledger.users ENABLE ALWAYS TRIGGER users_keeps_rows;
CREATE OR REPLACE TRIGGER users_refuses_truncate BEFORE TRUNCATE ON ledger.users FOR EACH STATEMENT EXECUTE FUNCTION ledger.keep_rows('token_usage_ledger', 'user_id', 'execution_ledger', 'user_id');
ALTER TABLE ledger.users ENABLE ALWAYS TRIGGER users_refuses_truncate;

-- drop KeptRows users
DROP TRIGGER IF EXISTS users_keeps_rows ON ledger.users;
DROP TRIGGER IF EXISTS users_refuses_truncate ON ledger.users;
-- (its rows are run)
SELECT 'DROP FUNCTION IF EXISTS ledger.keep_rows()' WHERE NOT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = to_regprocedure('ledger.keep_rows()'));

-- create ConcurrentIndex idx_token_usage_analytics
-- (outside a transaction, its rows are run, patiently)
SELECT 'DROP INDEX CONCURRENTLY ledger.idx_token_usage_analytics' FROM pg_index WHERE indexrelid = to_regclass('ledger.idx_token_usage_analytics') AND NOT indisvalid;
-- (outside a transaction, its rows are run, patiently)
SELECT $$CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_token_usage_analytics ON ledger.token_usage_ledger (user_id, created_at) INCLUDE (provider_id, model_id, status, tier, vendor_cost, charge_usd, credits_deducted, input_tokens, output_tokens) WHERE kind = 'usage'$$;
-- (outside a transaction)
ANALYZE ledger.token_usage_ledger;

-- drop ConcurrentIndex idx_token_usage_analytics
-- (outside a transaction, its rows are run, patiently)
SELECT 'DROP INDEX CONCURRENTLY IF EXISTS ledger.idx_token_usage_analytics';

-- create ConcurrentIndex idx_token_usage_corrected
-- (outside a transaction, its rows are run, patiently)
SELECT 'DROP INDEX CONCURRENTLY ledger.idx_token_usage_corrected' FROM pg_index WHERE indexrelid = to_regclass('ledger.idx_token_usage_corrected') AND NOT indisvalid;
-- (outside a transaction, its rows are run, patiently)
SELECT $$CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_token_usage_corrected ON ledger.token_usage_ledger (user_id, adjusts_id) WHERE kind <> 'usage'$$;
-- (outside a transaction)
ANALYZE ledger.token_usage_ledger;

-- drop ConcurrentIndex idx_token_usage_corrected
-- (outside a transaction, its rows are run, patiently)
SELECT 'DROP INDEX CONCURRENTLY IF EXISTS ledger.idx_token_usage_corrected';

-- create ConcurrentIndex idx_token_usage_corrections
-- (outside a transaction, its rows are run, patiently)
SELECT 'DROP INDEX CONCURRENTLY ledger.idx_token_usage_corrections' FROM pg_index WHERE indexrelid = to_regclass('ledger.idx_token_usage_corrections') AND NOT indisvalid;
-- (outside a transaction, its rows are run, patiently)
SELECT $$CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_token_usage_corrections ON ledger.token_usage_ledger (created_at) WHERE kind <> 'usage'$$;
-- (outside a transaction)
ANALYZE ledger.token_usage_ledger;

-- drop ConcurrentIndex idx_token_usage_corrections
-- (outside a transaction, its rows are run, patiently)
SELECT 'DROP INDEX CONCURRENTLY IF EXISTS ledger.idx_token_usage_corrections';

-- create ConcurrentIndex idx_token_usage_project
-- (outside a transaction, its rows are run, patiently)
SELECT 'DROP INDEX CONCURRENTLY ledger.idx_token_usage_project' FROM pg_index WHERE indexrelid = to_regclass('ledger.idx_token_usage_project') AND NOT indisvalid;
-- (outside a transaction, its rows are run, patiently)
SELECT $$CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_token_usage_project ON ledger.token_usage_ledger (project_id, created_at) WHERE project_id IS NOT NULL$$;
-- (outside a transaction)
ANALYZE ledger.token_usage_ledger;

-- drop ConcurrentIndex idx_token_usage_project
-- (outside a transaction, its rows are run, patiently)
SELECT 'DROP INDEX CONCURRENTLY IF EXISTS ledger.idx_token_usage_project';

-- create ConcurrentIndex idx_token_usage_restated
-- (outside a transaction, its rows are run, patiently)
SELECT 'DROP INDEX CONCURRENTLY ledger.idx_token_usage_restated' FROM pg_index WHERE indexrelid = to_regclass('ledger.idx_token_usage_restated') AND NOT indisvalid;
-- (outside a transaction, its rows are run, patiently)
SELECT $$CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_token_usage_restated ON ledger.token_usage_ledger (adjusts_created_at) WHERE kind <> 'usage'$$;
-- (outside a transaction)
ANALYZE ledger.token_usage_ledger;

-- drop ConcurrentIndex idx_token_usage_restated
-- (outside a transaction, its rows are run, patiently)
SELECT 'DROP INDEX CONCURRENTLY IF EXISTS ledger.idx_token_usage_restated';

-- create ConcurrentIndex idx_token_usage_success
-- (outside a transaction, its rows are run, patiently)
SELECT 'DROP INDEX CONCURRENTLY ledger.idx_token_usage_success' FROM pg_index WHERE indexrelid = to_regclass('ledger.idx_token_usage_success') AND NOT indisvalid;
-- (outside a transaction, its rows are run, patiently)
SELECT $$CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_token_usage_success ON ledger.token_usage_ledger (created_at) INCLUDE (provider_id, vendor_cost, charge_usd, credits_deducted, input_tokens, output_tokens) WHERE status = 'success' AND kind = 'usage'$$;
-- (outside a transaction)
ANALYZE ledger.token_usage_ledger;

-- drop ConcurrentIndex idx_token_usage_success
-- (outside a transaction, its rows are run, patiently)
SELECT 'DROP INDEX CONCURRENTLY IF EXISTS ledger.idx_token_usage_success';

-- create ConcurrentIndex idx_token_usage_unpriced
-- (outside a transaction, its rows are run, patiently)
SELECT 'DROP INDEX CONCURRENTLY ledger.idx_token_usage_unpriced' FROM pg_index WHERE indexrelid = to_regclass('ledger.idx_token_usage_unpriced') AND NOT indisvalid;
-- (outside a transaction, its rows are run, patiently)
SELECT $$CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_token_usage_unpriced ON ledger.token_usage_ledger (created_at) WHERE pricing_status = 'unpriced'$$;
-- (outside a transaction)
ANALYZE ledger.token_usage_ledger;

-- drop ConcurrentIndex idx_token_usage_unpriced
-- (outside a transaction, its rows are run, patiently)
SELECT 'DROP INDEX CONCURRENTLY IF EXISTS ledger.idx_token_usage_unpriced';

-- create ConcurrentIndex idx_token_usage_unsuccessful
-- (outside a transaction, its rows are run, patiently)
SELECT 'DROP INDEX CONCURRENTLY ledger.idx_token_usage_unsuccessful' FROM pg_index WHERE indexrelid = to_regclass('ledger.idx_token_usage_unsuccessful') AND NOT indisvalid;
-- (outside a transaction, its rows are run, patiently)
SELECT $$CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_token_usage_unsuccessful ON ledger.token_usage_ledger (created_at) INCLUDE (provider_id, status, vendor_cost, charge_usd, credits_deducted, input_tokens, output_tokens) WHERE status <> 'success' AND kind = 'usage'$$;
-- (outside a transaction)
ANALYZE ledger.token_usage_ledger;

-- drop ConcurrentIndex idx_token_usage_unsuccessful
-- (outside a transaction, its rows are run, patiently)
SELECT 'DROP INDEX CONCURRENTLY IF EXISTS ledger.idx_token_usage_unsuccessful';

-- create CoveringIndex llm_requests_category_idx
-- (outside a transaction, its rows are run)
SELECT 'DROP INDEX ledger.llm_requests_category_idx' FROM pg_index WHERE indexrelid = to_regclass('ledger.llm_requests_category_idx') AND NOT indisvalid;
-- (outside a transaction)
CREATE INDEX IF NOT EXISTS llm_requests_category_idx ON ledger.llm_requests USING btree (category, "timestamp") WITH (timescaledb.transaction_per_chunk) WHERE category IS NOT NULL;

-- drop CoveringIndex llm_requests_category_idx
DROP INDEX IF EXISTS ledger.llm_requests_category_idx;

-- create CoveringIndex llm_requests_errors_idx
-- (outside a transaction, its rows are run)
SELECT 'DROP INDEX ledger.llm_requests_errors_idx' FROM pg_index WHERE indexrelid = to_regclass('ledger.llm_requests_errors_idx') AND NOT indisvalid;
-- (outside a transaction)
CREATE INDEX IF NOT EXISTS llm_requests_errors_idx ON ledger.llm_requests USING btree (http_status_code, "timestamp") WITH (timescaledb.transaction_per_chunk) WHERE http_status_code >= 400 OR error_type IS NOT NULL;

-- drop CoveringIndex llm_requests_errors_idx
DROP INDEX IF EXISTS ledger.llm_requests_errors_idx;

-- create CoveringIndex llm_requests_model_idx
-- (outside a transaction, its rows are run)
SELECT 'DROP INDEX ledger.llm_requests_model_idx' FROM pg_index WHERE indexrelid = to_regclass('ledger.llm_requests_model_idx') AND NOT indisvalid;
-- (outside a transaction)
CREATE INDEX IF NOT EXISTS llm_requests_model_idx ON ledger.llm_requests USING btree (model, "timestamp") WITH (timescaledb.transaction_per_chunk);

-- drop CoveringIndex llm_requests_model_idx
DROP INDEX IF EXISTS ledger.llm_requests_model_idx;

-- create CoveringIndex llm_requests_timestamp_idx
-- (outside a transaction, its rows are run)
SELECT 'DROP INDEX ledger.llm_requests_timestamp_idx' FROM pg_index WHERE indexrelid = to_regclass('ledger.llm_requests_timestamp_idx') AND NOT indisvalid;
-- (outside a transaction)
CREATE INDEX IF NOT EXISTS llm_requests_timestamp_idx ON ledger.llm_requests USING brin ("timestamp") WITH (timescaledb.transaction_per_chunk);

-- drop CoveringIndex llm_requests_timestamp_idx
DROP INDEX IF EXISTS ledger.llm_requests_timestamp_idx;
