// How these tests check. A failed check tells its line and what it saw; the rest still runs.
#pragma once

#include <cstdio>
#include <exception>
#include <initializer_list>
#include <source_location>
#include <string>
#include <type_traits>

namespace viommu::test {

struct Case {
    const char* sentence;  // what is true of the engine
    void (*body)();
};

inline int failures = 0;
inline const char* running = "";

using Where = std::source_location;

inline void fail(const std::string& saw, Where where) {
    ++failures;
    std::fprintf(stderr, "%s:%u: not so: %s (%s)\n", where.file_name(), where.line(), running, saw.c_str());
}

inline void check(bool holds, const char* what, Where where = Where::current()) {
    if (!holds) fail(what, where);
}

template <typename T> std::string shown(const T& value) {
    if constexpr (std::is_convertible_v<T, std::string>) {
        return value;
    } else {
        char text[24];
        std::snprintf(text, sizeof text, "%#llx", static_cast<unsigned long long>(value));
        return text;
    }
}

template <typename A, typename B> void equals(const A& saw, const B& wanted, Where where = Where::current()) {
    bool same;
    if constexpr (std::is_integral_v<A> && std::is_integral_v<B>)
        same = static_cast<unsigned long long>(saw) == static_cast<unsigned long long>(wanted);
    else
        same = saw == wanted;
    if (!same) fail("saw " + shown(saw) + ", wanted " + shown(wanted), where);
}

template <typename Error, typename Body> void throws(Body&& body, Where where = Where::current()) {
    try {
        body();
    } catch (const Error&) {
        return;
    } catch (const std::exception& error) {
        return fail(std::string("another error: ") + error.what(), where);
    }
    fail("no error", where);
}

inline int run(std::initializer_list<Case> cases) {
    for (const Case& one : cases) {
        running = one.sentence;
        one.body();
    }
    return failures != 0;
}

}  // namespace viommu::test
