\set n random(0, :members - 1)
SELECT bench.empty('@user' || :n || ':' || 'example.com');
