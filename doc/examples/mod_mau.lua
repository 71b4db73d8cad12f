-- mod_mau: asks mau before a user comes online or registers, and reports sightings to it. For Prosody 0.12 and 13.
--
--   plugin_paths = { "/usr/local/lib/prosody/modules" }  -- the folder of this file
--   VirtualHost "example.com"
--       modules_enabled = { "mau" }
--       -- mau_sql = { driver = "PostgreSQL", database = "prosody", username = "prosody", host = "..." }; default: sql
--
-- A superuser gives the role its rights: SELECT mau.grant_to('prosody'). If a call of mau fails, the request goes ahead and the
-- error is logged: counting must not close the server.

local sql = require "util.sql";
local json = require "util.json";

local params = module:get_option("mau_sql", module:get_option("sql"));
assert(params, "mod_mau needs mau_sql, or sql of mod_storage_sql");

local engine;

-- The first column of the one row of a query; nothing where it fails.
local function ask(query, ...)
	engine = engine or sql:create_engine(params);
	local args = { n = select("#", ...), ... };
	local ok, answer = engine:transaction(function ()
		for row in engine:select(query, (table.unpack or unpack)(args, 1, args.n)) do
			return row[1];
		end
	end);
	if not ok then
		module:log("warn", "mau cannot be asked: %s", tostring(answer));
		return nil;
	end
	return answer;
end

-- mau's answer as a stanza error: nil = go ahead.
local function refusal(answer)
	if not answer then return nil; end
	local body = json.decode(answer) or {};
	local text = body.error or "Monthly Active User Limit Exceeded";
	if type(body.admin_contact) == "string" then
		text = text .. " (" .. body.admin_contact .. ")";
	end
	module:log("info", "refused: %s", text);
	return { type = "wait", condition = "resource-constraint", text = text };
end

-- Login. Check and record are one call, so that two users cannot have the last seat.
module:hook("pre-resource-bind", function (event)
	local session = event.session;
	local err = refusal(ask("SELECT mau.admit(?)::text", session.username .. "@" .. module.host));
	if err then
		event.error = err;
		return false;
	end
end, 10);

-- Logout: seen until now.
module:hook("resource-unbind", function (event)
	ask("SELECT mau.record_activity(?)", event.session.username .. "@" .. module.host);
end);

-- Registration over the wire: nobody registers on a full server.
module:hook("user-registering", function (event)
	local err = refusal(ask("SELECT mau.check_auth_blocking()::text"));
	if err then
		event.allowed = false;
		event.error = err;
		event.error_type, event.error_condition, event.reason = err.type, err.condition, err.text;
	end
end);

module:hook("user-registered", function (event)
	ask("SELECT mau.register_user(?)", event.username .. "@" .. event.host);
end);

-- Accounts that are deleted, disabled or enabled through the running server. prosodyctl deluser of 0.12 does not go through it.
local function report(query)
	return function (event)
		if event.host == module.host then
			ask(query, event.username .. "@" .. event.host);
		end
	end
end

module:hook_global("user-deleted", report("SELECT mau.forget_user(?)"));
module:hook_global("user-disabled", report("SELECT mau.deactivate_user(?)"));
module:hook_global("user-enabled", report("SELECT mau.register_user(?)"));
