// The engine's paths beside loops that do their memory work alone.
#include "cold.hpp"
#include "formats.hpp"
#include "hits.hpp"
#include "invalidations.hpp"
#include "room.hpp"
#include "sweeps.hpp"
#include "threads.hpp"

int main(int count, char** arguments) {
    using namespace viommu::bench;
    Groups groups;
    for (const std::size_t pages : {thousand, some, million})
        groups.add("hits, " + counted(pages) + " pages", [=] { return hits(pages); });
    for (const std::size_t pages : {some, million, many})
        groups.add("cold, " + counted(pages) + " pages", [=] { return cold(pages); });
    for (const std::size_t pages : {some, million})
        groups.add("nested, " + counted(pages) + " pages", [=] { return nested(pages); });
    groups.add("formats, 16k pages", [] { return formats(some); });
    groups.add("threads", threads);
    groups.add("room", room);
    groups.add("invalidations", [] { return invalidations({64, thousand, million}); });
    groups.add("over working set", over_working_set);
    groups.add("over fill", over_fill);
    groups.add("over depth", [] { return over_depth(some); });
    groups.add("over threads", over_threads);
    groups.add("over streams", over_streams);
    return groups.main(count, arguments);
}
