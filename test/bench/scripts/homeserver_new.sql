-- Synapse's statements for the first request of a newcomer, with a limit: it counts the whole cohort.
\set n random(1000000000, 2000000000)
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT is_guest FROM public.users WHERE name = '@new' || :n || ':' || 'example.com';
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT "timestamp" FROM public.monthly_active_users WHERE user_id = '@new' || :n || ':' || 'example.com';
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT COUNT(*) FROM public.monthly_active_users LEFT JOIN public.users ON monthly_active_users.user_id = users.name WHERE (users.appservice_id IS NULL OR users.appservice_id = '');
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT user_type FROM public.users WHERE name = '@new' || :n || ':' || 'example.com';
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
INSERT INTO public.monthly_active_users (user_id, "timestamp") VALUES ('@new' || :n || ':' || 'example.com', floor(extract(epoch FROM clock_timestamp()) * 1000)) ON CONFLICT (user_id) DO UPDATE SET "timestamp" = EXCLUDED."timestamp";
COMMIT;
