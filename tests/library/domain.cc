// SPDX-License-Identifier: MIT
// libballast from C++: the header compiles, the names link, a callback is a lambda. What the
// functions do is domain.c's matter. test_library in tests/cli/test_install.py builds it.
#include <ballast/ballast.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>

#include <sys/mman.h>

namespace
{

constexpr std::uint64_t mib = 1048576;
constexpr std::uint64_t max = 64 * mib;
constexpr std::uint64_t target = 16 * mib;

void must(bool truth, const char *what)
{
    if (!truth) {
        std::printf("%s\n", what);
        std::exit(1);
    }
}

struct Destroy {
    void operator()(ballast_domain *domain) const
    {
        ballast_destroy(domain);
    }
};
using Domain = std::unique_ptr<ballast_domain, Destroy>;

unsigned char *map_ram()
{
    void *wide = mmap(nullptr, max + BALLAST_SUPERPAGE_BYTES, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    must(wide != MAP_FAILED, "mmap");
    const auto at = reinterpret_cast<std::uintptr_t>(wide) + BALLAST_SUPERPAGE_BYTES - 1;
    return reinterpret_cast<unsigned char *>(at - at % BALLAST_SUPERPAGE_BYTES);
}

ballast_stats stats_of(const Domain &domain)
{
    ballast_stats stats;
    must(ballast_get_stats(domain.get(), &stats, sizeof(stats)) == 0, "ballast_get_stats");
    must(stats.populated_bytes + stats.cached_bytes == stats.total_bytes, "P + C = total");
    return stats;
}

} // namespace

int main()
{
    std::atomic<int> exhausted{0};
    unsigned char *ram = map_ram();
    ballast_config config{};
    config.ram = ram;
    config.ram_bytes = max;
    config.target_bytes = target;
    config.opaque = &exhausted;
    config.notify = [](void *opaque, ballast_event event) {
        if (event == BALLAST_EVENT_EXHAUSTED) {
            ++*static_cast<std::atomic<int> *>(opaque);
        }
    };
    ballast_domain *made = nullptr;
    const int err = ballast_create(&config, sizeof(config), &made);
    if (err == -EPERM || err == -EOPNOTSUPP) {
        std::printf("skipped: no userfaultfd that can move pages\n");
        return 77;
    }
    must(err == 0, "ballast_create");
    Domain domain(made);
    must(std::string(ballast_version()).find('.') != std::string::npos, "ballast_version");
    must(stats_of(domain).total_bytes == target, "all of the target is there");

    std::thread guest([ram] {
        for (std::uint64_t at = 0; at < target + mib; at += 4096) {
            ram[at] = 1;
        }
    });
    for (int i = 0; i < 3000 && exhausted == 0; i++) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    must(exhausted == 1 && stats_of(domain).exhausted, "the guest is out of memory");
    must(ballast_set_target(domain.get(), 2 * target) == 0, "ballast_set_target");
    guest.join();
    must(stats_of(domain).total_bytes == 2 * target, "it has a larger target");
    must(ballast_inflate(domain.get(), ram + 32 * mib, 32 * mib) == 0, "ballast_inflate");
    must(ballast_deflate(domain.get(), ram + 32 * mib, mib) == 0, "ballast_deflate");
    must(stats_of(domain).ballooned_bytes == 31 * mib, "what was given up");
    must(ballast_discard(domain.get(), ram, mib) == 0 && ram[0] == 0, "ballast_discard");
    must(ballast_reset(domain.get()) == 0 && ram[target] == 0, "ballast_reset");
    return 0;
}
