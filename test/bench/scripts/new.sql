\set n random(1000000000, 2000000000)
SELECT mau.record_activity('@new' || :n || ':' || 'example.com', now(), 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0');
