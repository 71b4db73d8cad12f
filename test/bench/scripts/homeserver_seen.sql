-- Synapse's statements for a request of a member seen within the hour: nothing is written.
\set n random(0, :members - 1)
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT is_guest FROM public.users WHERE name = '@user' || :n || ':' || 'example.com';
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT "timestamp" FROM public.monthly_active_users WHERE user_id = '@user' || :n || ':' || 'example.com';
COMMIT;
