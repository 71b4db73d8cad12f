-- Without a worker, health is judged as it is with one: tasks that are run by hand hide nothing.
CREATE EXTENSION mau;
CREATE FUNCTION run_tasks() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM mau.fold(), mau.refresh(), mau.reap(); END $$;
UPDATE mau.settings SET mau_stats_only = true;
SELECT health FROM mau.health(); -- no task has run
SELECT run_tasks();
SELECT health, left(reason, 25) AS reason FROM mau.health(); -- nobody is known
SELECT mau.record_activity('@a:x');
SELECT run_tasks();
SELECT health, left(reason, 25) AS reason FROM mau.health();
UPDATE mau.settings SET mau_stats_only = false;
SELECT health, reason FROM mau.health(); -- nothing is recorded
UPDATE mau.settings SET mau_stats_only = true;
SELECT health, left(reason, 70) AS reason FROM mau.health(now() + interval '1 day'); -- tasks have stopped
-- A task whose row is missing has not run; its next run makes the row again.
DELETE FROM mau.tasks WHERE task = 'fold';
SELECT health, left(reason, 70) AS reason FROM mau.health();
SELECT run_tasks();
SELECT health, left(reason, 25) AS reason FROM mau.health();
SELECT task, runs FROM mau.tasks WHERE task IN ('fold', 'reap') ORDER BY 1;
DROP FUNCTION run_tasks;
DROP EXTENSION mau;
