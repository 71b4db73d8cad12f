// mau serve: the figures of one or several databases by HTTP, as a page and for Prometheus.
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <thread>

#include <httplib.h>

#include <fmt/format.h>

#include "client/commands.hpp"
#include "client/fleet.hpp"
#include "client/output.hpp"
#include "client/page.hpp"

namespace mau::client {
namespace {

struct ServeOptions {
    std::string listen = "127.0.0.1:9188";
    std::string at;
};

struct Address {
    std::string host;
    int port = 0;
    std::string shown;  ///< As in a URL.
};

Address parse_address(const std::string& text) {
    const Problem wrong(fmt::format("{} is no address", text),
                        "give --listen HOST:PORT, such as 127.0.0.1:9188 or [::1]:9188", kBadInput);
    const std::size_t colon = text.rfind(':');
    if (colon == std::string::npos || colon == 0) throw wrong;
    Address address;
    address.host = text.substr(0, colon);
    address.shown = address.host;
    const std::string port = text.substr(colon + 1);
    if (port.empty() || port.size() > 5 || port.find_first_not_of("0123456789") != std::string::npos)
        throw wrong;
    address.port = std::stoi(port);
    if (address.port > 65535) throw wrong;
    if (address.host.front() == '[') {
        if (address.host.back() != ']' || address.host.size() < 3) throw wrong;
        address.host = address.host.substr(1, address.host.size() - 2);
    } else if (address.host.find(':') != std::string::npos) {
        throw wrong;
    }
    return address;
}

void set_headers(httplib::Response& response) {
    response.set_header("X-Content-Type-Options", "nosniff");
    response.set_header("X-Frame-Options", "DENY");
    response.set_header("Referrer-Policy", "no-referrer");
    response.set_header("Cache-Control", "no-store");
}

void answer_text(httplib::Response& response, int status, const std::string& text) {
    response.status = status;
    response.set_content(text, "text/plain; charset=utf-8");
}

void answer_figures(const httplib::Request& request, httplib::Response& response,
                    const nlohmann::ordered_json& figures) {
    if (request.get_param_value("format") == "json") {
        response.set_content(json_text(figures), "application/json");
        return;
    }
    const Page page = make_page(figures, /*is_live=*/true);
    response.set_header("Content-Security-Policy", page.policy + "; frame-ancestors 'none'");
    response.set_content(page.html, "text/html; charset=utf-8");
}

void answer_database(Fleet& fleet, const std::string& name, const httplib::Request& request,
                     httplib::Response& response) {
    try {
        const auto figures = fleet.figures(name);
        if (!figures) return answer_text(response, 404, "no such database here\n");
        answer_figures(request, response, *figures);
    } catch (const Problem& problem) {
        answer_text(response, 503, fmt::format("{}\nHINT: {}\n", problem.what(), problem.hint()));
    }
}

void set_routes(httplib::Server& server, Fleet& fleet) {
    server.set_pre_routing_handler([](const httplib::Request& request, httplib::Response& response) {
        set_headers(response);
        if (request.method == "GET" || request.method == "HEAD") {
            return httplib::Server::HandlerResponse::Unhandled;
        }
        response.set_header("Allow", "GET, HEAD");
        answer_text(response, 405, "only GET is answered here\n");
        return httplib::Server::HandlerResponse::Handled;
    });
    server.Get("/metrics", [&fleet](const httplib::Request&, httplib::Response& response) {
        response.set_content(fleet.metrics(), "text/plain; version=0.0.4; charset=utf-8");
    });
    server.Get("/healthz", [&fleet](const httplib::Request&, httplib::Response& response) {
        const auto [is_well, lines] = fleet.health();
        answer_text(response, is_well ? 200 : 503, lines);
    });
    server.Get("/", [&fleet](const httplib::Request& request, httplib::Response& response) {
        if (fleet.is_of_several()) {
            answer_figures(request, response, fleet.overview());
        } else {
            answer_database(fleet, fleet.first_name(), request, response);
        }
    });
    server.Get(R"(/database/([\s\S]+))",
               [&fleet](const httplib::Request& request, httplib::Response& response) {
                   answer_database(fleet, request.matches[1], request, response);
               });
}

/// Binds the server, or raises Problem.
void listen_at(httplib::Server& server, Address& address) {
    // httplib's own default would let two programs listen at one port.
    server.set_socket_options([](auto socket) {
        const int yes = 1;
        setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    });
    // A request that waits for a page occupies a thread.
    server.new_task_queue = [] { return new httplib::ThreadPool(32); };
    bool is_bound = false;
    errno = 0;
    if (address.port == 0) {
        address.port = server.bind_to_any_port(address.host.c_str());
        is_bound = address.port > 0;
    } else {
        is_bound = server.bind_to_port(address.host.c_str(), address.port);
    }
    if (!is_bound) {
        throw Problem(fmt::format("cannot listen at {}:{}{}{}", address.shown, address.port,
                                  errno ? ": " : "", errno ? std::strerror(errno) : ""),
                      "is another program listening there? --listen HOST:PORT chooses another address");
    }
}

void run(Context& context, const ServeOptions& options) {
    Address address = parse_address(options.listen);
    // Before there are threads, so that all of them leave the signals to the one that waits for them.
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    // A terminal that is closed sends it to end the program.
    if (!isatty(STDIN_FILENO)) sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    std::signal(SIGPIPE, SIG_IGN);

    httplib::Server server;
    listen_at(server, address);
    std::atomic<Fleet*> listed = nullptr;  // set once the databases are known
    std::thread([&server, &listed, signals] {
        int received = 0;
        while (sigwait(&signals, &received) == 0 && received == SIGHUP)
            if (Fleet* const fleet = listed) fleet->list_again();
        server.stop();
        // Answers that are under way may end. A connection that is kept open, or a thread that waits for a
        // database that hangs, would take longer, and has nothing to finish.
        std::this_thread::sleep_for(std::chrono::milliseconds(500));
        std::_Exit(kDone);
    }).detach();
    Fleet fleet(context.options, context.options.timeout_or(5), options.at);
    listed = &fleet;
    set_routes(server, fleet);
    print(fmt::format("mau: listening at http://{}:{}/\n", address.shown, address.port));
    if (!server.listen_after_bind()) throw Problem("the server ended", "");
    std::_Exit(kDone);
}

}  // namespace

void add_serve(CLI::App& app, Context& context) {
    auto options = std::make_shared<ServeOptions>();
    CLI::App* const command =
        app.add_subcommand("serve", "Serve the page of the figures, and the metrics for Prometheus, by HTTP");
    command
        ->add_option("--listen", options->listen,
                     "Where to listen (default 127.0.0.1:9188); port 0 takes a free one. There is no "
                     "password: everyone who can connect reads the figures")
        ->option_text("HOST:PORT");
    command->add_flag("--all", context.options.all, "Each database of the server that has the extension");
    command->add_option("--targets", context.options.targets_file, "Each database that a YAML file names")
        ->option_text("FILE");
    command->add_option("--at", options->at, "The instant of the figures (now)")->option_text("TIME");
    command->footer(
        "/ is the page, /database/NAME that of one of several, /metrics for Prometheus, /healthz whether a "
        "database "
        "answers.\n"
        "SIGHUP reads the file of --targets anew and looks for new databases.\n"
        "Exit status: 0 ended by SIGTERM or SIGINT; 1 cannot listen; 2 wrong arguments.");
    command->callback([&context, options] { run(context, *options); });
}

}  // namespace mau::client
