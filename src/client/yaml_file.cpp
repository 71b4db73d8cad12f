#include "client/yaml_file.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <sstream>

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include "client/yaml_scalar.hpp"

namespace mau::client {
namespace {

using Kind = Node::Kind;

/// Follows the text of a file as a comment. A scalar that contains it has no closing quote, which yaml-cpp
/// does not mind: it lets a scalar end with the file.
constexpr const char* kEndOfFile = "# mau: the end of the file";

bool is_collection(const Node& node) {
    return node.kind == Kind::kList || node.kind == Kind::kMap || node.kind == Kind::kOther;
}

/// Builds the tree of a document.
class TreeBuilder : public YAML::EventHandler {
  public:
    explicit TreeBuilder(std::string file) : file_(std::move(file)) {}

    NodePtr root() const { return root_; }

    void OnDocumentStart(const YAML::Mark& mark) override { start_ = mark; }
    void OnDocumentEnd() override {}
    void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
        auto node = make(mark, Kind::kNull);
        // The mark of a value that is left out may be that of the next token.
        if (!frames_.empty() && frames_.back().key) node->place = frames_.back().key->place;
        keep(anchor, node);
        add(node);
    }
    void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
        const auto found = anchors_.find(anchor);
        if (found == anchors_.end()) throw problem_at({file_, mark.line + 1}, "a value contains itself");
        add(found->second);
    }
    void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  const std::string& value) override {
        auto node = make(mark, Kind::kText);
        node->text = value;
        node->is_plain = tag == "?";
        if (value.find(kEndOfFile) != std::string::npos) {
            throw problem_at(node->place, "a text without its closing quote",
                             "close it, or put a quote in a text between quotes of the other kind");
        }
        if (node->is_plain) {
            resolve_plain(*node);
        } else if (tag != "!" && !resolve_tagged(*node, tag)) {
            node->kind = Kind::kOther;
            node->tag = tag;
        }
        keep(anchor, node);
        add(node);
    }
    void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                         YAML::EmitterStyle::value) override {
        begin(mark, Kind::kList, tag, anchor);
    }
    void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                    YAML::EmitterStyle::value) override {
        begin(mark, Kind::kMap, tag, anchor);
    }
    void OnSequenceEnd() override { end(); }
    void OnMapEnd() override {
        merge(*frames_.back().node);
        end();
    }

    const YAML::Mark& start() const { return start_; }

  private:
    struct Frame {
        std::shared_ptr<Node> node;
        YAML::anchor_t anchor;
        NodePtr key;      ///< Of a map, while its value is awaited.
        std::string tag;  ///< That makes it kOther.
    };

    std::shared_ptr<Node> make(const YAML::Mark& mark, Kind kind) {
        auto node = std::make_shared<Node>();
        node->kind = kind;
        node->place = {file_, mark.line + 1};
        return node;
    }

    void keep(YAML::anchor_t anchor, const NodePtr& node) {
        if (anchor != YAML::NullAnchor) anchors_[anchor] = node;
    }

    void begin(const YAML::Mark& mark, Kind kind, const std::string& tag, YAML::anchor_t anchor) {
        const bool is_known =
            tag.empty() || tag == "?" || tag == "!" ||
            tag == (kind == Kind::kList ? "tag:yaml.org,2002:seq" : "tag:yaml.org,2002:map");
        frames_.push_back({make(mark, kind), anchor, nullptr, is_known ? "" : tag});
    }

    void end() {
        const Frame frame = frames_.back();
        frames_.pop_back();
        if (!frame.tag.empty()) {
            frame.node->kind = Kind::kOther;
            frame.node->tag = frame.tag;
        }
        keep(frame.anchor, frame.node);
        add(frame.node);
    }

    void add(const NodePtr& node) {
        if (frames_.empty()) {
            root_ = node;
            return;
        }
        Frame& frame = frames_.back();
        if (frame.node->kind == Kind::kList) {
            frame.node->items.push_back(node);
        } else if (!frame.key) {
            if (is_collection(*node)) {
                throw problem_at(node->place, fmt::format("{} cannot be a key", describe(*node)),
                                 "is this a template that was not filled in?");
            }
            frame.key = node;
        } else {
            frame.node->entries.push_back({frame.key, node});
            frame.key = nullptr;
        }
    }

    /// Replaces `<<` by the entries of the maps that it names, which other entries override; then the last of
    /// several entries of a key is the only one.
    static void merge(Node& map) {
        std::vector<Node::Entry> merged, own;
        for (const Node::Entry& entry : map.entries) {
            if (!entry.key->is_plain || entry.key->text != "<<") {
                own.push_back(entry);
                continue;
            }
            std::vector<NodePtr> from = {entry.value};
            if (entry.value->kind == Kind::kList)
                from.assign(entry.value->items.rbegin(), entry.value->items.rend());
            for (const NodePtr& other : from) {
                if (other->kind != Kind::kMap)
                    throw problem_at(entry.key->place, "<< takes a map or a list of maps");
                merged.insert(merged.end(), other->entries.begin(), other->entries.end());
            }
        }
        map.entries.clear();
        for (const Node::Entry& entry : merged) put(map, entry.key, entry.value, 0);
        for (const Node::Entry& entry : own) {
            const auto same = [&](const Node::Entry& e) { return are_equal(*e.key, *entry.key); };
            const auto first = std::find_if(own.begin(), own.end(), same);
            put(map, entry.key, entry.value, first->key == entry.key ? 0 : first->key->place.line);
        }
    }

    static bool are_equal(const Node& a, const Node& b) { return a.kind == b.kind && a.text == b.text; }

    static void put(Node& map, const NodePtr& key, const NodePtr& value, int earlier_line) {
        const auto same = [&](const Node::Entry& e) { return are_equal(*e.key, *key); };
        const auto found = std::find_if(map.entries.begin(), map.entries.end(), same);
        const Node::Entry entry{key, value, earlier_line};
        if (found == map.entries.end()) {
            map.entries.push_back(entry);
        } else {
            *found = entry;
        }
    }

    std::string file_;
    YAML::Mark start_;
    std::vector<Frame> frames_;
    std::map<YAML::anchor_t, NodePtr> anchors_;
    NodePtr root_;
};

[[noreturn]] void fail_type(const Node& node, const std::string& name, const char* type,
                            const char* hint = "") {
    throw problem_at(node.place, fmt::format("{} must be {}, not {}", name, type, describe(node)), hint);
}

}  // namespace

std::string text_of(const Place& place) {
    return fmt::format("{}:{}", place.file, place.line);
}

Problem problem_at(const Place& place, std::string_view what, std::string hint) {
    return {fmt::format("{}: {}", text_of(place), what), std::move(hint), kBadInput};
}

const Node::Entry* Node::entry(std::string_view key) const {
    const auto found = std::find_if(entries.begin(), entries.end(), [&](const Entry& entry) {
        return entry.key->kind == Kind::kText && entry.key->text == key;
    });
    return found == entries.end() ? nullptr : &*found;
}

const Node* Node::find(std::string_view key) const {
    const Entry* const found = entry(key);
    return found ? found->value.get() : nullptr;
}

/// In bytes. yaml-cpp takes many seconds to parse a line that is much longer.
constexpr std::size_t kLargestFile = std::size_t{4} << 20;

std::string read_file(const std::string& path, std::string_view what) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"), std::fclose);
    std::string text;
    char buffer[8192];
    while (file) {
        const std::size_t count = std::fread(buffer, 1, sizeof buffer, file.get());
        text.append(buffer, count);
        if (text.size() > kLargestFile) {
            throw Problem(fmt::format("{}: larger than {} MB", path, kLargestFile >> 20),
                          fmt::format("name {}, which has some kB", what), kBadInput);
        }
        if (count < sizeof buffer) break;
    }
    if (!file || std::ferror(file.get())) {
        throw Problem(fmt::format("{}: cannot read it: {}", path, std::strerror(errno)),
                      fmt::format("run mau as a user who may read {}", what), kBadInput);
    }
    return text;
}

namespace {

NodePtr parse(const std::string& path, const std::string& text) {
    std::istringstream stream(text);
    TreeBuilder first(path), second(path);
    try {
        YAML::Parser parser(stream);
        if (parser.HandleNextDocument(first) && parser.HandleNextDocument(second))
            throw problem_at({path, second.start().line + 1}, "a second document", "remove the line ---");
    } catch (const YAML::Exception& e) {
        throw problem_at({path, e.mark.line + 1}, fmt::format("not YAML: {}", e.msg),
                         "check the indentation, quotes and brackets there and above");
    }
    if (first.root()) return first.root();
    auto nothing = std::make_shared<Node>();
    nothing->place.file = path;
    return nothing;
}

}  // namespace

NodePtr read_yaml(const std::string& path) {
    const std::string text = read_file(path);
    if (const int line = line_of_invalid_byte(text)) {
        throw problem_at({path, line}, "not UTF-8, or a control character", "save the file as UTF-8");
    }
    parse(path, fmt::format("{}\n{}\n", text, kEndOfFile));
    return parse(path, text);  // without the comment, as its line feed would be a part of the last text
}

std::string describe(const Node& node) {
    switch (node.kind) {
        case Kind::kNull:
            return "empty";
        case Kind::kText:
            return fmt::format("the text \"{}\"", node.text);
        case Kind::kList:
            return "a list";
        case Kind::kMap:
            return "a map";
        case Kind::kTime:
            return fmt::format("the date {}", node.text);
        case Kind::kOther:
            return fmt::format("a value with the tag {}", node.tag);
        case Kind::kBoolean:
        case Kind::kInteger:
        case Kind::kNumber:
            break;
    }
    return node.text;
}

bool boolean_of(const Node& node, const std::string& name) {
    if (node.kind != Kind::kBoolean)
        fail_type(node, name, "true or false", "write true or false, without quotes");
    return node.boolean;
}

long long integer_of(const Node& node, const std::string& name, long long from, long long to) {
    if (node.kind != Kind::kInteger)
        fail_type(node, name, "a whole number", "write digits only, without quotes");
    if (node.integer < from || node.integer > to)
        throw problem_at(node.place,
                         fmt::format("{} must be from {} to {}, not {}", name, from, to, node.text));
    return node.integer;
}

std::string text_of(const Node& node, const std::string& name) {
    if (node.kind != Kind::kText)
        fail_type(node, name, "a text",
                  is_collection(node) || node.kind == Kind::kNull ? "" : "put it in quotes");
    if (node.text.find('\0') != std::string::npos)
        throw problem_at(node.place, fmt::format("{} contains a zero byte", name));
    return node.text;
}

const std::vector<NodePtr>& list_of(const Node& node, std::string_view name) {
    if (node.kind != Kind::kList)
        fail_type(node, std::string(name), "a list",
                  node.kind == Kind::kNull ? "write [] for an empty list" : "");
    return node.items;
}

const std::vector<Node::Entry>& map_of(const Node& node, std::string_view name) {
    if (node.kind != Kind::kMap)
        fail_type(node, std::string(name), "a map",
                  node.kind == Kind::kNull ? "write {} for an empty map" : "");
    return node.entries;
}

const Node& required(const Node& map, std::string_view key, std::string_view name) {
    map_of(map, name);
    const Node* const found = map.find(key);
    if (!found) throw problem_at(map.place, fmt::format("{} has no {}", name, key));
    return *found;
}

}  // namespace mau::client
