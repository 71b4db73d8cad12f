%% mod_mau: asks mau before a user opens a session or registers, and reports sightings and accounts to it. For ejabberd on PostgreSQL.
%%
%%   erlc -pa /usr/lib/*/ejabberd-*/ebin mod_mau.erl   # and put mod_mau.beam where ejabberd's Erlang finds it
%%
%%   modules:
%%     mod_mau: {}               # interval: 600 = a session that sends stanzas is recorded at most once in so many seconds
%%
%% mau's schema is in the database of sql_server, where a superuser gives ejabberd's role its rights: SELECT mau.grant_to('ejabberd').
%% If mau cannot be asked, the request goes ahead and the error is logged: counting must not close the server.

-module(mod_mau).
-behaviour(gen_mod).

-export([start/2, stop/1, reload/3, depends/2, mod_opt_type/1, mod_options/1, mod_doc/0]).
-export([registering/2, registered/2, removed/2, session_opened/1, packet_sent/1, session_ended/2]).

start(Host, _Opts) -> each_hook(fun ejabberd_hooks:add/5, Host).

stop(Host) -> each_hook(fun ejabberd_hooks:delete/5, Host).

reload(_Host, _NewOpts, _OldOpts) -> ok.

depends(_Host, _Opts) -> [].

mod_opt_type(interval) -> econf:non_neg_int().

mod_options(_Host) -> [{interval, 600}].

mod_doc() -> #{desc => <<"Counts and limits monthly active users with mau.">>}.

each_hook(Do, Host) ->
    lists:foreach(
        fun({Hook, Function, Priority}) -> Do(Hook, Host, ?MODULE, Function, Priority) end,
        [
            {c2s_unauthenticated_packet, registering, 40}, % before mod_register
            {register_user, registered, 50},
            {remove_user, removed, 50},
            {c2s_session_opened, session_opened, 50},
            {user_send_packet, packet_sent, 50},
            {c2s_terminated, session_ended, 50}
        ]
    ).

%% Hooks

%% A registration over XMPP: nobody registers on a full server.
registering(#{lserver := Host, lang := Lang} = State, Packet) ->
    case is_registration(Packet) andalso refusal(Host, <<"mau.check_auth_blocking()">>) of
        {refused, Text} ->
            Error = xmpp:make_error(Packet, xmpp:err_resource_constraint(Text, Lang)),
            {stop, ejabberd_c2s:send(State, xmpp:set_from_to(Error, jid:make(Host), undefined))};
        _ ->
            State
    end.

registered(User, Host) -> call(Host, <<"mau.register_user">>, User).

removed(User, Host) -> call(Host, <<"mau.deactivate_user">>, User).

%% Login. Check and record are one call, so that two users cannot have the last seat. ejabberd has no hook that can refuse to bind a
%% resource, so a refused session is closed as soon as it is open.
session_opened(#{user := User, lserver := Host, lang := Lang} = State) ->
    case refusal(Host, [<<"mau.admit(">>, literal(User, Host), <<")">>]) of
        {refused, Text} -> ejabberd_c2s:send(State, xmpp:serr_resource_constraint(Text, Lang));
        allowed -> State#{mau_recorded_at => now_s()}
    end.

%% A session that goes on.
packet_sent({Packet, #{mau_recorded_at := RecordedAt, user := User, lserver := Host} = State}) ->
    case now_s() - RecordedAt >= gen_mod:get_module_opt(Host, ?MODULE, interval) of
        true ->
            call(Host, <<"mau.record_activity">>, User),
            {Packet, State#{mau_recorded_at => now_s()}};
        false ->
            {Packet, State}
    end;
packet_sent(Acc) ->
    Acc.

%% Logout of a session that was not refused: seen until now.
session_ended(#{mau_recorded_at := _, user := User, lserver := Host} = State, _Reason) ->
    call(Host, <<"mau.record_activity">>, User),
    State;
session_ended(State, _Reason) ->
    State.

%% Questions to the database

call(Host, Function, User) ->
    query(Host, [<<"SELECT ">>, Function, <<"(">>, literal(User, Host), <<")">>]),
    ok.

%% mau's answer: NULL means that the request may go ahead.
refusal(Host, Question) ->
    Columns = <<"concat(a->>'error', ' (' || (a->>'admin_contact') || ')')">>,
    case query(Host, [<<"SELECT ">>, Columns, <<" FROM ">>, Question, <<" a WHERE a IS NOT NULL">>]) of
        {selected, _, [[Text]]} ->
            logger:info("mau refuses: ~ts", [Text]),
            {refused, Text};
        _ ->
            allowed
    end.

query(Host, Sql) ->
    case catch ejabberd_sql:sql_query(Host, iolist_to_binary(Sql)) of
        {selected, _, _} = Rows ->
            Rows;
        Error ->
            logger:warning("mau cannot be asked: ~p", [Error]),
            error
    end.

literal(User, Host) -> ejabberd_sql:to_string_literal(pgsql, jid:encode({User, Host, <<>>})).

is_registration(Packet) ->
    element(1, Packet) =:= iq andalso xmpp:get_type(Packet) =:= set andalso
        lists:any(fun(El) -> xmpp:get_ns(El) =:= <<"jabber:iq:register">> end, xmpp:get_els(Packet)).

now_s() -> erlang:monotonic_time(second).
