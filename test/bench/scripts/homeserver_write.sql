-- Synapse's statements for a request of a member last seen more than an hour ago, with a trial period configured.
\set n random(0, :members - 1)
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT is_guest FROM public.users WHERE name = '@user' || :n || ':' || 'example.com';
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT name, password_hash, is_guest, admin, consent_version, consent_server_notice_sent, appservice_id, creation_ts, user_type, deactivated, shadow_banned FROM public.users WHERE name = '@user' || :n || ':' || 'example.com';
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT "timestamp" FROM public.monthly_active_users WHERE user_id = '@user' || :n || ':' || 'example.com';
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT user_type FROM public.users WHERE name = '@user' || :n || ':' || 'example.com';
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
INSERT INTO public.monthly_active_users (user_id, "timestamp") VALUES ('@user' || :n || ':' || 'example.com', floor(extract(epoch FROM clock_timestamp()) * 1000)) ON CONFLICT (user_id) DO UPDATE SET "timestamp" = EXCLUDED."timestamp";
COMMIT;
