-- guard
DO $block$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb_toolkit') THEN
    RAISE EXCEPTION 'this script was written for a server with timescaledb_toolkit, which this one lacks';
  END IF;
  IF EXISTS (SELECT FROM pg_extension
             WHERE extname = 'timescaledb_toolkit' AND extnamespace <> 'public'::regnamespace) THEN
    RAISE EXCEPTION 'this script needs timescaledb_toolkit in the schema public; migrate from Python instead';
  END IF;
  -- Two IFs: one condition would be parsed whole, and the table is not there at first.
  IF to_regclass('ledger.installation') IS NOT NULL THEN
    IF EXISTS (SELECT FROM ledger.installation
        WHERE (storage, percentiles) <> ('postgres', 'uddsketch')) THEN
      RAISE EXCEPTION 'this script is for postgres with uddsketch; the database has another';
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
DO $block$
BEGIN
  IF (SELECT relkind FROM pg_class WHERE oid = 'ledger.llm_requests'::regclass) = 'r' THEN
    IF EXISTS (SELECT FROM ledger.llm_requests) THEN
      RAISE EXCEPTION USING ERRCODE = 'LG004',
        MESSAGE = 'ledger.llm_requests holds rows and is not partitioned';
    END IF;
    CREATE TABLE ledger.llm_requests_partitioned (LIKE ledger.llm_requests INCLUDING ALL)
      PARTITION BY RANGE ("timestamp");
    DROP TABLE ledger.llm_requests;
    ALTER TABLE ledger.llm_requests_partitioned RENAME TO llm_requests;
    ALTER TABLE ledger.llm_requests RENAME CONSTRAINT llm_requests_partitioned_pkey TO llm_requests_pkey;
  END IF;
END
$block$;
INSERT INTO ledger.rollup_progress (source) VALUES ('llm_requests') ON CONFLICT DO NOTHING;
CREATE OR REPLACE FUNCTION ledger.ensure_days(days date[]) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  first CONSTANT date := (ledger.raw_from() AT TIME ZONE 'UTC')::date;
  last CONSTANT date := (now() AT TIME ZONE 'UTC')::date + 8;
  missing date[];
  missing_day date;
  partition text;
  made integer := 0;
BEGIN
  SELECT array_agg(DISTINCT day ORDER BY day) INTO missing FROM unnest(days) AS day
  WHERE pg_partition_root(to_regclass(format('ledger.llm_requests_p%s', to_char(day, 'YYYYMMDD'))))
        IS DISTINCT FROM 'ledger.llm_requests'::regclass;
  IF missing IS NULL THEN
    RETURN 0;
  END IF;
  IF missing[1] < first OR missing[cardinality(missing)] > last THEN
    RAISE EXCEPTION USING ERRCODE = 'LG005', MESSAGE = format(
      'days %s to %s are outside what is kept, %s to %s', missing[1],
      missing[cardinality(missing)], first, last);
  END IF;
  LOCK TABLE ledger.llm_requests IN SHARE UPDATE EXCLUSIVE MODE;
  FOREACH missing_day IN ARRAY missing LOOP
    partition := format('llm_requests_p%s', to_char(missing_day, 'YYYYMMDD'));
    CONTINUE WHEN pg_partition_root(to_regclass('ledger.' || partition))
                  IS NOT DISTINCT FROM 'ledger.llm_requests'::regclass;
    EXECUTE format('CREATE TABLE ledger.%I (LIKE ledger.llm_requests INCLUDING ALL)', partition);
    EXECUTE format('ALTER TABLE ledger.llm_requests ATTACH PARTITION ledger.%I FOR VALUES FROM (%L) TO (%L)',
                   partition, missing_day::timestamp AT TIME ZONE 'UTC',
                   (missing_day + 1)::timestamp AT TIME ZONE 'UTC');
    made := made + 1;
  END LOOP;
  RETURN made;
END
$function$;
REVOKE ALL ON ROUTINE ledger.ensure_days FROM PUBLIC;

-- drop TimeSeries llm_requests
DROP ROUTINE IF EXISTS ledger.ensure_days;
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
CREATE TABLE IF NOT EXISTS ledger.llm_requests_touched (hour timestamptz NOT NULL, user_id uuid NOT NULL) WITH (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0);
CREATE INDEX IF NOT EXISTS llm_requests_touched_idx ON ledger.llm_requests_touched (hour, user_id);
CREATE OR REPLACE FUNCTION ledger.log_llm_requests_touched() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  oldest timestamptz;
  horizon timestamptz;
BEGIN
  WITH touched AS (
    INSERT INTO ledger.llm_requests_touched (hour, user_id) SELECT DISTINCT date_bin('1 hour', "timestamp", '1970-01-01 00:00:00+00'::timestamptz), user_id FROM changed RETURNING hour)
  SELECT min(hour) INTO oldest FROM touched;
  SELECT raw_from INTO horizon FROM ledger.rollup_progress WHERE source = 'llm_requests';
  IF oldest < horizon THEN
    RAISE EXCEPTION USING ERRCODE = 'LG005', MESSAGE = format(
      'rows of the hour %s are too old: what is before %s is read from rollups', oldest, horizon);
  END IF;
  RETURN NULL;
END
$function$;
REVOKE ALL ON ROUTINE ledger.log_llm_requests_touched FROM PUBLIC;
CREATE OR REPLACE FUNCTION ledger.log_llm_requests_deleted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  INSERT INTO ledger.llm_requests_touched (hour, user_id) SELECT DISTINCT date_bin('1 hour', "timestamp", '1970-01-01 00:00:00+00'::timestamptz), user_id FROM changed;
  RETURN NULL;
END
$function$;
REVOKE ALL ON ROUTINE ledger.log_llm_requests_deleted FROM PUBLIC;
CREATE OR REPLACE FUNCTION ledger.log_llm_requests_updated() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
  INSERT INTO ledger.llm_requests_touched (hour, user_id)
  SELECT date_bin('1 hour', "timestamp", '1970-01-01 00:00:00+00'::timestamptz), user_id FROM before UNION SELECT date_bin('1 hour', "timestamp", '1970-01-01 00:00:00+00'::timestamptz), user_id FROM after;
  RETURN NULL;
END
$function$;
REVOKE ALL ON ROUTINE ledger.log_llm_requests_updated FROM PUBLIC;
CREATE OR REPLACE TRIGGER llm_requests_touched_by_insert AFTER INSERT ON ledger.llm_requests REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION ledger.log_llm_requests_touched();
CREATE OR REPLACE TRIGGER llm_requests_touched_by_delete AFTER DELETE ON ledger.llm_requests REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION ledger.log_llm_requests_deleted();
CREATE OR REPLACE TRIGGER llm_requests_touched_by_update AFTER UPDATE ON ledger.llm_requests REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION ledger.log_llm_requests_updated();
INSERT INTO ledger.llm_requests_touched (hour, user_id) SELECT DISTINCT date_bin('1 hour', "timestamp", '1970-01-01 00:00:00+00'::timestamptz), user_id FROM ledger.llm_requests;
CREATE TABLE IF NOT EXISTS ledger.llm_metrics_1m_materialized (bucket timestamptz NOT NULL, user_id uuid NOT NULL, provider text NOT NULL, model text NOT NULL, requests bigint NOT NULL, errors bigint NOT NULL, rate_limited bigint NOT NULL, input_tokens bigint NOT NULL, output_tokens bigint NOT NULL, reasoning_tokens bigint NOT NULL, cache_read_tokens bigint NOT NULL, cache_write_tokens bigint NOT NULL, cost_usd numeric(24,12) NOT NULL, unpriced_requests bigint NOT NULL, latency_sum_ms bigint NOT NULL, latency_sketch public.uddsketch NOT NULL, CONSTRAINT llm_metrics_1m_materialized_pkey PRIMARY KEY (user_id, bucket, provider, model));
CREATE INDEX IF NOT EXISTS llm_metrics_1m_materialized_bucket_idx ON ledger.llm_metrics_1m_materialized (bucket);
CREATE OR REPLACE FUNCTION ledger.rebuild_llm_metrics_1m(hours timestamptz[], users uuid[], source regclass DEFAULT 'ledger.llm_requests') RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  first CONSTANT timestamptz := (SELECT min(hour) FROM unnest(hours) AS hour);
  last CONSTANT timestamptz := (SELECT max(hour) + INTERVAL '1 hour' FROM unnest(hours) AS hour);
BEGIN
  DELETE FROM ledger.llm_metrics_1m_materialized m USING unnest(hours, users) AS taken(taken_hour, taken_user)
  WHERE m.user_id = taken_user AND m.bucket >= taken_hour
        AND m.bucket < taken_hour + INTERVAL '1 hour';
  EXECUTE format($statement$
INSERT INTO ledger.llm_metrics_1m_materialized (bucket, user_id, provider, model, requests, errors, rate_limited, input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cache_write_tokens, cost_usd, unpriced_requests, latency_sum_ms, latency_sketch) SELECT date_bin('60 seconds', "timestamp", '1970-01-01 00:00:00+00'::timestamptz) AS bucket, user_id, provider, model, (count(*))::bigint AS requests, (count(*) FILTER (WHERE http_status_code >= 400 OR error_type IS NOT NULL))::bigint AS errors, (count(*) FILTER (WHERE http_status_code = 429))::bigint AS rate_limited, (sum(input_tokens))::bigint AS input_tokens, (sum(output_tokens))::bigint AS output_tokens, (sum(reasoning_tokens))::bigint AS reasoning_tokens, (sum(cache_read_tokens))::bigint AS cache_read_tokens, (sum(cache_write_tokens))::bigint AS cache_write_tokens, coalesce(sum(cost_usd), 0) AS cost_usd, (count(*) FILTER (WHERE cost_usd IS NULL))::bigint AS unpriced_requests, (sum(latency_ms))::bigint AS latency_sum_ms, public.uddsketch(256, 0.0265::double precision, least(greatest(latency_ms, 10), 3600000)::double precision) AS latency_sketch FROM unnest($1, $2) AS taken(taken_hour, taken_user), LATERAL (SELECT * FROM %1$s s WHERE s.user_id = taken_user AND s."timestamp" >= taken_hour AND s."timestamp" < taken_hour + INTERVAL '1 hour' AND s."timestamp" >= $3 AND s."timestamp" < $4 OFFSET 0) AS s GROUP BY 1, user_id, provider, model ORDER BY user_id, bucket
  $statement$, source) USING hours, users, first, last;
END
$function$;
CREATE OR REPLACE VIEW ledger.llm_metrics_1m AS SELECT bucket, user_id, provider, model, requests, errors, rate_limited, input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cache_write_tokens, cost_usd, unpriced_requests, latency_sum_ms, latency_sketch FROM ledger.llm_metrics_1m_materialized m
WHERE m.bucket < (SELECT p.watermark FROM (SELECT * FROM ledger.rollup_progress WHERE source = 'llm_requests') p)
  AND NOT EXISTS (SELECT FROM ledger.llm_requests_touched t, (SELECT * FROM ledger.rollup_progress WHERE source = 'llm_requests') p
                  WHERE t.hour = date_bin('1 hour', m.bucket, '1970-01-01 00:00:00+00'::timestamptz) AND t.user_id = m.user_id AND t.hour >= p.raw_from)
UNION ALL
SELECT date_bin('60 seconds', "timestamp", '1970-01-01 00:00:00+00'::timestamptz) AS bucket, user_id, provider, model, (count(*))::bigint AS requests, (count(*) FILTER (WHERE http_status_code >= 400 OR error_type IS NOT NULL))::bigint AS errors, (count(*) FILTER (WHERE http_status_code = 429))::bigint AS rate_limited, (sum(input_tokens))::bigint AS input_tokens, (sum(output_tokens))::bigint AS output_tokens, (sum(reasoning_tokens))::bigint AS reasoning_tokens, (sum(cache_read_tokens))::bigint AS cache_read_tokens, (sum(cache_write_tokens))::bigint AS cache_write_tokens, coalesce(sum(cost_usd), 0) AS cost_usd, (count(*) FILTER (WHERE cost_usd IS NULL))::bigint AS unpriced_requests, (sum(latency_ms))::bigint AS latency_sum_ms, public.uddsketch(256, 0.0265::double precision, least(greatest(latency_ms, 10), 3600000)::double precision) AS latency_sketch FROM ledger.llm_requests s WHERE s."timestamp" >= (SELECT p.watermark FROM (SELECT * FROM ledger.rollup_progress WHERE source = 'llm_requests') p) GROUP BY 1, user_id, provider, model
UNION ALL
SELECT date_bin('60 seconds', "timestamp", '1970-01-01 00:00:00+00'::timestamptz) AS bucket, user_id, provider, model, (count(*))::bigint AS requests, (count(*) FILTER (WHERE http_status_code >= 400 OR error_type IS NOT NULL))::bigint AS errors, (count(*) FILTER (WHERE http_status_code = 429))::bigint AS rate_limited, (sum(input_tokens))::bigint AS input_tokens, (sum(output_tokens))::bigint AS output_tokens, (sum(reasoning_tokens))::bigint AS reasoning_tokens, (sum(cache_read_tokens))::bigint AS cache_read_tokens, (sum(cache_write_tokens))::bigint AS cache_write_tokens, coalesce(sum(cost_usd), 0) AS cost_usd, (count(*) FILTER (WHERE cost_usd IS NULL))::bigint AS unpriced_requests, (sum(latency_ms))::bigint AS latency_sum_ms, public.uddsketch(256, 0.0265::double precision, least(greatest(latency_ms, 10), 3600000)::double precision) AS latency_sketch FROM (SELECT DISTINCT t.hour, t.user_id AS touched_user FROM ledger.llm_requests_touched t, (SELECT * FROM ledger.rollup_progress WHERE source = 'llm_requests') p WHERE t.hour < p.watermark AND t.hour >= p.raw_from) AS touched JOIN ledger.llm_requests s ON s.user_id = touched_user AND s."timestamp" >= touched.hour AND s."timestamp" < touched.hour + INTERVAL '1 hour' GROUP BY 1, user_id, provider, model;

-- drop Rollup llm_metrics_1m
DROP VIEW IF EXISTS ledger.llm_metrics_1m;
DROP ROUTINE IF EXISTS ledger.rebuild_llm_metrics_1m;
DROP TABLE IF EXISTS ledger.llm_metrics_1m_materialized;
DROP TRIGGER IF EXISTS llm_requests_touched_by_insert ON ledger.llm_requests;
DROP TRIGGER IF EXISTS llm_requests_touched_by_delete ON ledger.llm_requests;
DROP TRIGGER IF EXISTS llm_requests_touched_by_update ON ledger.llm_requests;
DROP ROUTINE IF EXISTS ledger.log_llm_requests_touched;
DROP ROUTINE IF EXISTS ledger.log_llm_requests_deleted;
DROP ROUTINE IF EXISTS ledger.log_llm_requests_updated;
DROP TABLE IF EXISTS ledger.llm_requests_touched;

-- create Rollup llm_metrics_1h
CREATE TABLE IF NOT EXISTS ledger.llm_metrics_1h_materialized (bucket timestamptz NOT NULL, user_id uuid NOT NULL, provider text NOT NULL, model text NOT NULL, requests bigint NOT NULL, errors bigint NOT NULL, rate_limited bigint NOT NULL, input_tokens bigint NOT NULL, output_tokens bigint NOT NULL, reasoning_tokens bigint NOT NULL, cache_read_tokens bigint NOT NULL, cache_write_tokens bigint NOT NULL, cost_usd numeric(24,12) NOT NULL, unpriced_requests bigint NOT NULL, latency_sum_ms bigint NOT NULL, latency_sketch public.uddsketch NOT NULL, CONSTRAINT llm_metrics_1h_materialized_pkey PRIMARY KEY (user_id, bucket, provider, model));
CREATE INDEX IF NOT EXISTS llm_metrics_1h_materialized_bucket_idx ON ledger.llm_metrics_1h_materialized (bucket);
CREATE OR REPLACE FUNCTION ledger.rebuild_llm_metrics_1h(hours timestamptz[], users uuid[], source regclass DEFAULT 'ledger.llm_metrics_1m_materialized') RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  first CONSTANT timestamptz := (SELECT min(hour) FROM unnest(hours) AS hour);
  last CONSTANT timestamptz := (SELECT max(hour) + INTERVAL '1 hour' FROM unnest(hours) AS hour);
BEGIN
  DELETE FROM ledger.llm_metrics_1h_materialized m USING unnest(hours, users) AS taken(taken_hour, taken_user)
  WHERE m.user_id = taken_user AND m.bucket >= taken_hour
        AND m.bucket < taken_hour + INTERVAL '1 hour';
  EXECUTE format($statement$
INSERT INTO ledger.llm_metrics_1h_materialized (bucket, user_id, provider, model, requests, errors, rate_limited, input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cache_write_tokens, cost_usd, unpriced_requests, latency_sum_ms, latency_sketch) SELECT date_bin('3600 seconds', "bucket", '1970-01-01 00:00:00+00'::timestamptz) AS bucket, user_id, provider, model, (sum(requests))::bigint AS requests, (sum(errors))::bigint AS errors, (sum(rate_limited))::bigint AS rate_limited, (sum(input_tokens))::bigint AS input_tokens, (sum(output_tokens))::bigint AS output_tokens, (sum(reasoning_tokens))::bigint AS reasoning_tokens, (sum(cache_read_tokens))::bigint AS cache_read_tokens, (sum(cache_write_tokens))::bigint AS cache_write_tokens, sum(cost_usd) AS cost_usd, (sum(unpriced_requests))::bigint AS unpriced_requests, (sum(latency_sum_ms))::bigint AS latency_sum_ms, public.rollup(latency_sketch) AS latency_sketch FROM unnest($1, $2) AS taken(taken_hour, taken_user), LATERAL (SELECT * FROM %1$s s WHERE s.user_id = taken_user AND s."bucket" >= taken_hour AND s."bucket" < taken_hour + INTERVAL '1 hour' AND s."bucket" >= $3 AND s."bucket" < $4 OFFSET 0) AS s GROUP BY 1, user_id, provider, model ORDER BY user_id, bucket
  $statement$, source) USING hours, users, first, last;
END
$function$;
CREATE OR REPLACE VIEW ledger.llm_metrics_1h AS SELECT bucket, user_id, provider, model, requests, errors, rate_limited, input_tokens, output_tokens, reasoning_tokens, cache_read_tokens, cache_write_tokens, cost_usd, unpriced_requests, latency_sum_ms, latency_sketch FROM ledger.llm_metrics_1h_materialized m
WHERE m.bucket < (SELECT p.watermark FROM (SELECT * FROM ledger.rollup_progress WHERE source = 'llm_requests') p)
  AND NOT EXISTS (SELECT FROM ledger.llm_requests_touched t, (SELECT * FROM ledger.rollup_progress WHERE source = 'llm_requests') p
                  WHERE t.hour = date_bin('1 hour', m.bucket, '1970-01-01 00:00:00+00'::timestamptz) AND t.user_id = m.user_id AND t.hour >= p.raw_from)
UNION ALL
SELECT date_bin('3600 seconds', "bucket", '1970-01-01 00:00:00+00'::timestamptz) AS bucket, user_id, provider, model, (sum(requests))::bigint AS requests, (sum(errors))::bigint AS errors, (sum(rate_limited))::bigint AS rate_limited, (sum(input_tokens))::bigint AS input_tokens, (sum(output_tokens))::bigint AS output_tokens, (sum(reasoning_tokens))::bigint AS reasoning_tokens, (sum(cache_read_tokens))::bigint AS cache_read_tokens, (sum(cache_write_tokens))::bigint AS cache_write_tokens, sum(cost_usd) AS cost_usd, (sum(unpriced_requests))::bigint AS unpriced_requests, (sum(latency_sum_ms))::bigint AS latency_sum_ms, public.rollup(latency_sketch) AS latency_sketch FROM ledger.llm_metrics_1m s WHERE s."bucket" >= (SELECT p.watermark FROM (SELECT * FROM ledger.rollup_progress WHERE source = 'llm_requests') p) GROUP BY 1, user_id, provider, model
UNION ALL
SELECT date_bin('3600 seconds', "bucket", '1970-01-01 00:00:00+00'::timestamptz) AS bucket, user_id, provider, model, (sum(requests))::bigint AS requests, (sum(errors))::bigint AS errors, (sum(rate_limited))::bigint AS rate_limited, (sum(input_tokens))::bigint AS input_tokens, (sum(output_tokens))::bigint AS output_tokens, (sum(reasoning_tokens))::bigint AS reasoning_tokens, (sum(cache_read_tokens))::bigint AS cache_read_tokens, (sum(cache_write_tokens))::bigint AS cache_write_tokens, sum(cost_usd) AS cost_usd, (sum(unpriced_requests))::bigint AS unpriced_requests, (sum(latency_sum_ms))::bigint AS latency_sum_ms, public.rollup(latency_sketch) AS latency_sketch FROM (SELECT DISTINCT t.hour, t.user_id AS touched_user FROM ledger.llm_requests_touched t, (SELECT * FROM ledger.rollup_progress WHERE source = 'llm_requests') p WHERE t.hour < p.watermark AND t.hour >= p.raw_from) AS touched JOIN ledger.llm_metrics_1m s ON s.user_id = touched_user AND s."bucket" >= touched.hour AND s."bucket" < touched.hour + INTERVAL '1 hour' GROUP BY 1, user_id, provider, model;

-- drop Rollup llm_metrics_1h
DROP VIEW IF EXISTS ledger.llm_metrics_1h;
DROP ROUTINE IF EXISTS ledger.rebuild_llm_metrics_1h;
DROP TABLE IF EXISTS ledger.llm_metrics_1h_materialized;

-- create Refresh refresh_metrics
CREATE OR REPLACE FUNCTION ledger.refresh_metrics(hours integer DEFAULT 24) RETURNS integer LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  closed CONSTANT timestamptz := date_bin('1 hour', now() - INTERVAL '300 seconds', '1970-01-01 00:00:00+00'::timestamptz);
  horizon timestamptz;
  rebuilt_to timestamptz;
  hours_taken timestamptz[];
  users_taken uuid[];
  waiting integer;
BEGIN
  IF NOT pg_try_advisory_xact_lock(5202611210001) THEN
    RETURN -1;
  END IF;
  SELECT raw_from INTO horizon FROM ledger.rollup_progress WHERE source = 'llm_requests';
  SELECT max(hour) + INTERVAL '1 hour' INTO rebuilt_to FROM (
    SELECT DISTINCT hour FROM ledger.llm_requests_touched WHERE hour >= horizon AND hour < closed
    ORDER BY hour LIMIT hours) AS oldest;
  IF rebuilt_to IS NOT NULL THEN
  WITH taken AS (DELETE FROM ledger.llm_requests_touched WHERE hour >= horizon AND hour < rebuilt_to RETURNING hour, user_id)
  SELECT array_agg(hour), array_agg(user_id) INTO hours_taken, users_taken
  FROM (SELECT DISTINCT hour, user_id FROM taken) AS pairs;
  PERFORM ledger.rebuild_llm_metrics_1m(hours_taken, users_taken);
  PERFORM ledger.rebuild_llm_metrics_1h(hours_taken, users_taken);
  END IF;
  SELECT count(*) INTO waiting FROM (
    SELECT DISTINCT hour, user_id FROM ledger.llm_requests_touched WHERE hour >= horizon AND hour < closed) AS pairs;
  UPDATE ledger.rollup_progress
  SET watermark = greatest(watermark, CASE WHEN waiting = 0 THEN closed ELSE rebuilt_to END)
  WHERE source = 'llm_requests';
  RETURN waiting;
END
$function$;
CREATE OR REPLACE FUNCTION ledger.retire_day(partition text) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
  detached regclass;
  day CONSTANT timestamptz :=
    to_date(right(partition, 8), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC';
  hours_taken timestamptz[];
  users_taken uuid[];
BEGIN
  PERFORM pg_advisory_xact_lock(5202611210001);
  EXECUTE format('LOCK TABLE ONLY ledger.%I IN SHARE MODE', partition);
  detached := format('ledger.%I', partition)::regclass;
  IF pg_partition_root(detached) IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'LG004', MESSAGE = format('%s is still attached', partition);
  END IF;
  IF (SELECT raw_from FROM ledger.rollup_progress WHERE source = 'llm_requests')
     < day + INTERVAL '1 day' THEN
    RAISE EXCEPTION USING ERRCODE = 'LG004', MESSAGE = format(
      'rows of the day of %s are still accepted and rolled up', partition);
  END IF;
  WITH taken AS (DELETE FROM ledger.llm_requests_touched WHERE hour >= day AND hour < day + INTERVAL '1 day' RETURNING hour, user_id)
  SELECT array_agg(hour), array_agg(user_id) INTO hours_taken, users_taken
  FROM (SELECT DISTINCT hour, user_id FROM taken) AS pairs;
  IF hours_taken IS NOT NULL THEN
  PERFORM ledger.rebuild_llm_metrics_1m(hours_taken, users_taken, detached);
  PERFORM ledger.rebuild_llm_metrics_1h(hours_taken, users_taken);
  END IF;
  EXECUTE format('DROP TABLE %s', detached);
END
$function$;

-- drop Refresh refresh_metrics
DROP ROUTINE IF EXISTS ledger.retire_day;
DROP ROUTINE IF EXISTS ledger.refresh_metrics;
UPDATE ledger.rollup_progress SET watermark = '-infinity' WHERE source = 'llm_requests';

-- create Columnstore llm_requests

-- drop Columnstore llm_requests

-- create Columnstore llm_metrics_1m

-- drop Columnstore llm_metrics_1m

-- create Columnstore llm_metrics_1h

-- drop Columnstore llm_metrics_1h

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

-- drop Retention llm_requests

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

-- drop Retention llm_metrics_1m

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

-- drop Retention llm_metrics_1h

-- create View my_scopes
CREATE OR REPLACE VIEW ledger.my_scopes WITH (security_barrier) AS SELECT kind, user_id FROM ledger.role_scopes WHERE role = current_user;

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

-- create CoveringIndex llm_requests_category_idx
-- (outside a transaction, its rows are run)
SELECT 'DROP INDEX ledger.llm_requests_category_idx' FROM pg_index i WHERE i.indexrelid = to_regclass('ledger.llm_requests_category_idx') AND NOT i.indisvalid AND NOT EXISTS (SELECT FROM pg_partition_tree('ledger.llm_requests') t WHERE t.isleaf AND NOT EXISTS (SELECT FROM pg_index p JOIN pg_inherits h ON h.inhrelid = p.indexrelid WHERE p.indrelid = t.relid AND h.inhparent = i.indexrelid));
-- (outside a transaction)
CREATE INDEX IF NOT EXISTS llm_requests_category_idx ON ONLY ledger.llm_requests USING btree (category, "timestamp") WHERE category IS NOT NULL;
-- (outside a transaction, its rows are run, patiently)
SELECT 'DROP INDEX CONCURRENTLY IF EXISTS ' || index_name FROM (SELECT c.relname, 'ledger.' || quote_ident(c.relname || '_' || 'category_idx') AS index_name FROM pg_partition_tree('ledger.llm_requests') t JOIN pg_class c ON c.oid = t.relid WHERE t.isleaf AND NOT EXISTS (SELECT FROM pg_index p JOIN pg_inherits h ON h.inhrelid = p.indexrelid WHERE p.indrelid = c.oid AND h.inhparent = 'ledger.llm_requests_category_idx'::regclass)) p WHERE to_regclass(index_name) IS NOT NULL AND NOT (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(index_name));
-- (outside a transaction, its rows are run, patiently)
SELECT 'CREATE INDEX CONCURRENTLY IF NOT EXISTS ' || split_part(index_name, '.', 2) || ' ON ledger.' || quote_ident(relname) || ' USING btree (category, "timestamp") WHERE category IS NOT NULL' FROM (SELECT c.relname, 'ledger.' || quote_ident(c.relname || '_' || 'category_idx') AS index_name FROM pg_partition_tree('ledger.llm_requests') t JOIN pg_class c ON c.oid = t.relid WHERE t.isleaf AND NOT EXISTS (SELECT FROM pg_index p JOIN pg_inherits h ON h.inhrelid = p.indexrelid WHERE p.indrelid = c.oid AND h.inhparent = 'ledger.llm_requests_category_idx'::regclass)) p;
-- (outside a transaction, its rows are run)
SELECT 'ALTER INDEX ledger.llm_requests_category_idx ATTACH PARTITION ' || index_name FROM (SELECT c.relname, 'ledger.' || quote_ident(c.relname || '_' || 'category_idx') AS index_name FROM pg_partition_tree('ledger.llm_requests') t JOIN pg_class c ON c.oid = t.relid WHERE t.isleaf AND NOT EXISTS (SELECT FROM pg_index p JOIN pg_inherits h ON h.inhrelid = p.indexrelid WHERE p.indrelid = c.oid AND h.inhparent = 'ledger.llm_requests_category_idx'::regclass)) p;

-- drop CoveringIndex llm_requests_category_idx
DROP INDEX IF EXISTS ledger.llm_requests_category_idx;

-- create CoveringIndex llm_requests_errors_idx
-- (outside a transaction, its rows are run)
SELECT 'DROP INDEX ledger.llm_requests_errors_idx' FROM pg_index i WHERE i.indexrelid = to_regclass('ledger.llm_requests_errors_idx') AND NOT i.indisvalid AND NOT EXISTS (SELECT FROM pg_partition_tree('ledger.llm_requests') t WHERE t.isleaf AND NOT EXISTS (SELECT FROM pg_index p JOIN pg_inherits h ON h.inhrelid = p.indexrelid WHERE p.indrelid = t.relid AND h.inhparent = i.indexrelid));
-- (outside a transaction)
CREATE INDEX IF NOT EXISTS llm_requests_errors_idx ON ONLY ledger.llm_requests USING btree (http_status_code, "timestamp") WHERE http_status_code >= 400 OR error_type IS NOT NULL;
-- (outside a transaction, its rows are run, patiently)
SELECT 'DROP INDEX CONCURRENTLY IF EXISTS ' || index_name FROM (SELECT c.relname, 'ledger.' || quote_ident(c.relname || '_' || 'errors_idx') AS index_name FROM pg_partition_tree('ledger.llm_requests') t JOIN pg_class c ON c.oid = t.relid WHERE t.isleaf AND NOT EXISTS (SELECT FROM pg_index p JOIN pg_inherits h ON h.inhrelid = p.indexrelid WHERE p.indrelid = c.oid AND h.inhparent = 'ledger.llm_requests_errors_idx'::regclass)) p WHERE to_regclass(index_name) IS NOT NULL AND NOT (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(index_name));
-- (outside a transaction, its rows are run, patiently)
SELECT 'CREATE INDEX CONCURRENTLY IF NOT EXISTS ' || split_part(index_name, '.', 2) || ' ON ledger.' || quote_ident(relname) || ' USING btree (http_status_code, "timestamp") WHERE http_status_code >= 400 OR error_type IS NOT NULL' FROM (SELECT c.relname, 'ledger.' || quote_ident(c.relname || '_' || 'errors_idx') AS index_name FROM pg_partition_tree('ledger.llm_requests') t JOIN pg_class c ON c.oid = t.relid WHERE t.isleaf AND NOT EXISTS (SELECT FROM pg_index p JOIN pg_inherits h ON h.inhrelid = p.indexrelid WHERE p.indrelid = c.oid AND h.inhparent = 'ledger.llm_requests_errors_idx'::regclass)) p;
-- (outside a transaction, its rows are run)
SELECT 'ALTER INDEX ledger.llm_requests_errors_idx ATTACH PARTITION ' || index_name FROM (SELECT c.relname, 'ledger.' || quote_ident(c.relname || '_' || 'errors_idx') AS index_name FROM pg_partition_tree('ledger.llm_requests') t JOIN pg_class c ON c.oid = t.relid WHERE t.isleaf AND NOT EXISTS (SELECT FROM pg_index p JOIN pg_inherits h ON h.inhrelid = p.indexrelid WHERE p.indrelid = c.oid AND h.inhparent = 'ledger.llm_requests_errors_idx'::regclass)) p;

-- drop CoveringIndex llm_requests_errors_idx
DROP INDEX IF EXISTS ledger.llm_requests_errors_idx;

-- create CoveringIndex llm_requests_model_idx
-- (outside a transaction, its rows are run)
SELECT 'DROP INDEX ledger.llm_requests_model_idx' FROM pg_index i WHERE i.indexrelid = to_regclass('ledger.llm_requests_model_idx') AND NOT i.indisvalid AND NOT EXISTS (SELECT FROM pg_partition_tree('ledger.llm_requests') t WHERE t.isleaf AND NOT EXISTS (SELECT FROM pg_index p JOIN pg_inherits h ON h.inhrelid = p.indexrelid WHERE p.indrelid = t.relid AND h.inhparent = i.indexrelid));
-- (outside a transaction)
CREATE INDEX IF NOT EXISTS llm_requests_model_idx ON ONLY ledger.llm_requests USING btree (model, "timestamp");
-- (outside a transaction, its rows are run, patiently)
SELECT 'DROP INDEX CONCURRENTLY IF EXISTS ' || index_name FROM (SELECT c.relname, 'ledger.' || quote_ident(c.relname || '_' || 'model_idx') AS index_name FROM pg_partition_tree('ledger.llm_requests') t JOIN pg_class c ON c.oid = t.relid WHERE t.isleaf AND NOT EXISTS (SELECT FROM pg_index p JOIN pg_inherits h ON h.inhrelid = p.indexrelid WHERE p.indrelid = c.oid AND h.inhparent = 'ledger.llm_requests_model_idx'::regclass)) p WHERE to_regclass(index_name) IS NOT NULL AND NOT (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(index_name));
-- (outside a transaction, its rows are run, patiently)
SELECT 'CREATE INDEX CONCURRENTLY IF NOT EXISTS ' || split_part(index_name, '.', 2) || ' ON ledger.' || quote_ident(relname) || ' USING btree (model, "timestamp")' FROM (SELECT c.relname, 'ledger.' || quote_ident(c.relname || '_' || 'model_idx') AS index_name FROM pg_partition_tree('ledger.llm_requests') t JOIN pg_class c ON c.oid = t.relid WHERE t.isleaf AND NOT EXISTS (SELECT FROM pg_index p JOIN pg_inherits h ON h.inhrelid = p.indexrelid WHERE p.indrelid = c.oid AND h.inhparent = 'ledger.llm_requests_model_idx'::regclass)) p;
-- (outside a transaction, its rows are run)
SELECT 'ALTER INDEX ledger.llm_requests_model_idx ATTACH PARTITION ' || index_name FROM (SELECT c.relname, 'ledger.' || quote_ident(c.relname || '_' || 'model_idx') AS index_name FROM pg_partition_tree('ledger.llm_requests') t JOIN pg_class c ON c.oid = t.relid WHERE t.isleaf AND NOT EXISTS (SELECT FROM pg_index p JOIN pg_inherits h ON h.inhrelid = p.indexrelid WHERE p.indrelid = c.oid AND h.inhparent = 'ledger.llm_requests_model_idx'::regclass)) p;

-- drop CoveringIndex llm_requests_model_idx
DROP INDEX IF EXISTS ledger.llm_requests_model_idx;

-- create CoveringIndex llm_requests_timestamp_idx
-- (outside a transaction, its rows are run)
SELECT 'DROP INDEX ledger.llm_requests_timestamp_idx' FROM pg_index i WHERE i.indexrelid = to_regclass('ledger.llm_requests_timestamp_idx') AND NOT i.indisvalid AND NOT EXISTS (SELECT FROM pg_partition_tree('ledger.llm_requests') t WHERE t.isleaf AND NOT EXISTS (SELECT FROM pg_index p JOIN pg_inherits h ON h.inhrelid = p.indexrelid WHERE p.indrelid = t.relid AND h.inhparent = i.indexrelid));
-- (outside a transaction)
CREATE INDEX IF NOT EXISTS llm_requests_timestamp_idx ON ONLY ledger.llm_requests USING brin ("timestamp");
-- (outside a transaction, its rows are run, patiently)
SELECT 'DROP INDEX CONCURRENTLY IF EXISTS ' || index_name FROM (SELECT c.relname, 'ledger.' || quote_ident(c.relname || '_' || 'timestamp_idx') AS index_name FROM pg_partition_tree('ledger.llm_requests') t JOIN pg_class c ON c.oid = t.relid WHERE t.isleaf AND NOT EXISTS (SELECT FROM pg_index p JOIN pg_inherits h ON h.inhrelid = p.indexrelid WHERE p.indrelid = c.oid AND h.inhparent = 'ledger.llm_requests_timestamp_idx'::regclass)) p WHERE to_regclass(index_name) IS NOT NULL AND NOT (SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(index_name));
-- (outside a transaction, its rows are run, patiently)
SELECT 'CREATE INDEX CONCURRENTLY IF NOT EXISTS ' || split_part(index_name, '.', 2) || ' ON ledger.' || quote_ident(relname) || ' USING brin ("timestamp")' FROM (SELECT c.relname, 'ledger.' || quote_ident(c.relname || '_' || 'timestamp_idx') AS index_name FROM pg_partition_tree('ledger.llm_requests') t JOIN pg_class c ON c.oid = t.relid WHERE t.isleaf AND NOT EXISTS (SELECT FROM pg_index p JOIN pg_inherits h ON h.inhrelid = p.indexrelid WHERE p.indrelid = c.oid AND h.inhparent = 'ledger.llm_requests_timestamp_idx'::regclass)) p;
-- (outside a transaction, its rows are run)
SELECT 'ALTER INDEX ledger.llm_requests_timestamp_idx ATTACH PARTITION ' || index_name FROM (SELECT c.relname, 'ledger.' || quote_ident(c.relname || '_' || 'timestamp_idx') AS index_name FROM pg_partition_tree('ledger.llm_requests') t JOIN pg_class c ON c.oid = t.relid WHERE t.isleaf AND NOT EXISTS (SELECT FROM pg_index p JOIN pg_inherits h ON h.inhrelid = p.indexrelid WHERE p.indrelid = c.oid AND h.inhparent = 'ledger.llm_requests_timestamp_idx'::regclass)) p;

-- drop CoveringIndex llm_requests_timestamp_idx
DROP INDEX IF EXISTS ledger.llm_requests_timestamp_idx;
