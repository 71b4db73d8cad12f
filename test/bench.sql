CREATE EXTENSION mau;
\timing on
SELECT count(mau.record_activity('@u' || n % 100 || ':x')) FROM generate_series(1, 10000) n;
