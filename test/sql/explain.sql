-- explain: every rule that is looked at, in order, whether it holds, and the facts; the verdict last.
CREATE EXTENSION mau;
CREATE FUNCTION t(i interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE -- an instant, by its distance from noon
    AS $$ SELECT (timestamp '2026-11-21 12:00:00.080' + i) AT TIME ZONE 'UTC' $$;
CREATE FUNCTION see(who text, i interval DEFAULT '0') RETURNS text LANGUAGE sql
    AS $$ SELECT mau.record_activity('@' || who || ':example.com', t(i)) $$;
SELECT mau.register_user('@a:example.com', t('-100 days')), see('a', '-2 days');
-- A member.
SELECT * FROM mau.explain('@a:example.com', t('0'));
UPDATE mau.settings SET limit_usage_by_mau = true, max_mau_value = 1, mau_trial_days = 7, admin_contact = 'mailto:admin@example.com';
SELECT * FROM mau.explain('@a:example.com', t('0'));
-- A stranger at a full server, and at one that is not.
SELECT * FROM mau.explain('@new:example.com', t('0'));
UPDATE mau.settings SET max_mau_value = 2;
SELECT step, rule, holds, detail FROM mau.explain('@new:example.com', t('0')) WHERE rule IN ('server is full', 'verdict');
-- On trial.
SELECT mau.register_user('@trial:example.com', t('-1 day -1 h'));
SELECT * FROM mau.explain('@trial:example.com', t('0'));
-- An appservice's user.
SELECT mau.register_user('@irc_a:example.com', t('-100 days'), appservice_id => 'irc');
SELECT * FROM mau.explain('@irc_a:example.com', t('0'));
-- Expired; reserved.
SELECT rule, holds, detail FROM mau.explain('@a:example.com', t('1000 h')) WHERE rule IN ('member of the cohort', 'member goes ahead', 'verdict');
INSERT INTO mau.reserved_threepids VALUES ('email', 'a@example.com');
SELECT mau.add_threepid('@a:example.com', 'email', 'a@example.com');
SELECT rule, holds, detail FROM mau.explain('@a:example.com', t('1000 h')) WHERE rule IN ('member of the cohort', 'member goes ahead', 'verdict');
-- The other verdicts.
SELECT mau.register_user('@help:example.com', t('-100 days'), 'support'), mau.register_user('@guest:example.com', t('-100 days'), is_guest => true),
       mau.register_user('@gone:example.com', t('-100 days')), mau.deactivate_user('@gone:example.com', t('0')) \g /dev/null
CREATE FUNCTION verdict(who text) RETURNS text LANGUAGE sql AS $$ SELECT detail FROM mau.explain('@' || who || ':example.com', t('0')) WHERE rule = 'verdict' $$;
SELECT verdict('help'), verdict('guest'), verdict('gone');
UPDATE mau.settings SET count_deactivated_users = false, server_name = 'example.com', hs_disabled = true;
SELECT verdict('gone'), verdict('a');
SELECT detail FROM mau.explain('@x:elsewhere.org', t('0')) WHERE rule = 'verdict';
UPDATE mau.settings SET limit_usage_by_mau = false, mau_stats_only = false, hs_disabled = false;
SELECT * FROM mau.explain('@new:example.com', t('0'));
-- explain agrees with the real outcome and blocking for every user, under many settings. Steps are numbered, the verdict is one and last.
CREATE FUNCTION check_verdicts() RETURNS TABLE (wrong text, checked bigint) LANGUAGE plpgsql AS $$
DECLARE who text; said text; does text; n bigint := 0; BEGIN
    FOR i IN 0..127 LOOP
        UPDATE mau.settings SET limit_usage_by_mau = i & 1 > 0, mau_stats_only = i & 2 > 0, hs_disabled = i & 4 > 0, track_appservice_user_ips = i & 8 > 0,
            count_deactivated_users = i & 16 > 0, max_mau_value = CASE WHEN i & 32 > 0 THEN 1 ELSE 5 END, server_name = CASE WHEN i & 64 > 0 THEN 'example.com' END;
        FOREACH who IN ARRAY '{@a:example.com,@new:example.com,@trial:example.com,@irc_a:example.com,@help:example.com,@guest:example.com,@gone:example.com,@x:elsewhere.org}'::text[] LOOP
            SELECT detail INTO said FROM mau.explain(who, t('0')) ORDER BY step DESC LIMIT 1;
            does := CASE WHEN mau.check_auth_blocking(who, at => t('0')) IS NULL THEN 'goes ahead' ELSE 'blocked' END;
            BEGIN
                does := mau.record_activity(who, t('0')) || '; a request now: ' || does;
                RAISE EXCEPTION USING ERRCODE = 'UE000';
            EXCEPTION WHEN SQLSTATE 'UE000' THEN NULL; END;
            n := n + 1;
            IF said NOT LIKE '%; a sighting now: ' || does THEN wrong := concat_ws(' | ', i, who, said, does); checked := n; RETURN NEXT; END IF;
            IF (SELECT (count(*), max(step), min(step)) <> (max(step), count(*), 1) OR count(*) FILTER (WHERE rule = 'verdict') <> 1 FROM mau.explain(who, t('0')))
            THEN wrong := 'steps ' || who; checked := n; RETURN NEXT; END IF;
        END LOOP;
    END LOOP;
    wrong := NULL; checked := n; RETURN NEXT;
END $$;
SELECT * FROM check_verdicts();
-- Explaining changes nothing.
SELECT count(*) FROM mau.users WHERE user_id = '@new:example.com';
