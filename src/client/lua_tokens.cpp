#include "client/lua_tokens.hpp"

#include <algorithm>
#include <cctype>

namespace mau::client {
namespace {

class Lexer {
  public:
    Lexer(const std::string& file, const std::string& text) : file_(file), text_(text) {}

    std::vector<LuaToken> tokens() {
        if (text_.compare(0, 2, "#!") == 0) at_ = std::min(text_.find('\n'), text_.size());
        while (at_ < text_.size()) next();
        return std::move(tokens_);
    }

  private:
    void next() {
        const char c = text_[at_];
        if (std::isspace(static_cast<unsigned char>(c))) {
            step();
        } else if (text_.compare(at_, 2, "--") == 0) {
            at_ += 2;
            if (!skip_long()) at_ = std::min(text_.find('\n', at_), text_.size());
        } else if (c == '"' || c == '\'') {
            add_quoted(c);
        } else if (is_of_name(c)) {
            const std::size_t from = at_;
            while (at_ < text_.size() && is_of_name(text_[at_])) ++at_;
            tokens_.push_back({LuaToken::Kind::kName, text_.substr(from, at_ - from), line_});
        } else if (const int line = line_; skip_long()) {
            tokens_.push_back({LuaToken::Kind::kText, long_text_, line});
        } else {
            tokens_.push_back({LuaToken::Kind::kSymbol, std::string(1, c), line_});
            ++at_;
        }
    }

    static bool is_of_name(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

    void step() {
        if (text_[at_] == '\n') ++line_;
        ++at_;
    }

    /// Reads a long string, [[…]] or [=[…]=], and keeps its text. Returns false if the text does not begin
    /// with one.
    bool skip_long() {
        if (at_ >= text_.size() || text_[at_] != '[') return false;
        std::size_t begin = at_ + 1;
        while (begin < text_.size() && text_[begin] == '=') ++begin;
        if (begin >= text_.size() || text_[begin] != '[') return false;
        const std::string closing = "]" + text_.substr(at_ + 1, begin - at_ - 1) + "]";
        const std::size_t end = text_.find(closing, begin + 1);
        if (end == std::string::npos) throw problem_at({file_, line_}, "[[ without its ]]");
        long_text_ = text_.substr(begin + 1, end - begin - 1);
        while (at_ < end + closing.size()) step();
        return true;
    }

    void add_quoted(char quote) {
        const int line = line_;
        std::string value;
        for (step(); at_ < text_.size() && text_[at_] != quote; step()) {
            if (text_[at_] == '\n') break;
            if (text_[at_] == '\\' && at_ + 1 < text_.size()) step();
            value += text_[at_];
        }
        if (at_ >= text_.size() || text_[at_] != quote)
            throw problem_at({file_, line}, "a text without its closing quote");
        step();
        tokens_.push_back({LuaToken::Kind::kText, value, line});
    }

    const std::string& file_;
    const std::string& text_;
    std::size_t at_ = 0;
    int line_ = 1;
    std::string long_text_;
    std::vector<LuaToken> tokens_;
};

}  // namespace

std::vector<LuaToken> lua_tokens(const std::string& file, const std::string& text) {
    return Lexer(file, text).tokens();
}

}  // namespace mau::client
