\set n random(0, :members - 1)
INSERT INTO bench.plain AS p (user_id, "timestamp", service) VALUES ('@user' || :n || ':' || 'example.com', floor(extract(epoch FROM clock_timestamp()) * 1000), 'native') ON CONFLICT (user_id) DO UPDATE SET "timestamp" = greatest(p."timestamp", EXCLUDED."timestamp"), service = EXCLUDED.service;
