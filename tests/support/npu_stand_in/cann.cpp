/* Stands in for the libraries of CANN that torch_npu is linked with: two cards whose memory is the host's. What torch_npu
   needs besides returns 0 (cann.py writes it). */
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>

namespace {
constexpr int OK = 0, NO_CONTEXT = 107002, NO_MEMORY = 207001;
constexpr int CARDS = 2;
constexpr size_t TOTAL = size_t{64} << 20;

thread_local int card = -1;
std::mutex lock;
std::unordered_map<void *, size_t> allocated;
size_t used;

int handle(void **out) {
    *out = new char;
    return OK;
}
}  // namespace

/* torch for CUDA has registered a key of allocator settings that torch_npu registers too; the second one would abort. */
namespace c10::CachingAllocator {
struct AcceleratorAllocatorConfig {
    static std::unordered_set<std::string> &getMutableKeys();
};

std::unordered_set<std::string> &AcceleratorAllocatorConfig::getMutableKeys() {
    return *new std::unordered_set<std::string>;
}
}  // namespace c10::CachingAllocator

extern "C" {
/* What the tests read: the card of the calling thread, -1 without. */
int standin_card() { return card; }

const char *aclrtGetSocName() { return "Ascend910B4"; }

const char *aclGetRecentErrMsg() { return ""; }

int aclrtGetDeviceCount(uint32_t *count) {
    *count = CARDS;
    return OK;
}

int aclrtSetDevice(int number) {
    card = number;
    return OK;
}

/* As the vendor's: of the calling thread. */
int aclrtGetDevice(int *number) {
    if (card < 0)
        return NO_CONTEXT;
    *number = card;
    return OK;
}

int aclrtGetCurrentContext(void **context) {
    if (card < 0)
        return NO_CONTEXT;
    *context = &card;
    return OK;
}

int aclrtGetMemInfo(int, size_t *free, size_t *total) {
    std::lock_guard<std::mutex> held(lock);
    *free = TOTAL - used;
    *total = TOTAL;
    return OK;
}

int aclrtMallocAlign32(void **address, size_t size, int) {
    std::lock_guard<std::mutex> held(lock);
    if (size > TOTAL - used)
        return NO_MEMORY;
    *address = std::aligned_alloc(512, (size + 511) / 512 * 512);
    if (!*address)
        return NO_MEMORY;
    allocated[*address] = size;
    used += size;
    return OK;
}

int aclrtMalloc(void **address, size_t size, int policy) { return aclrtMallocAlign32(address, size, policy); }

int aclrtFree(void *address) {
    std::lock_guard<std::mutex> held(lock);
    auto found = allocated.find(address);
    if (found == allocated.end())
        return NO_MEMORY;
    used -= found->second;
    allocated.erase(found);
    std::free(address);
    return OK;
}

int aclrtCreateStream(void **stream) { return handle(stream); }

int aclrtCreateStreamWithConfig(void **stream, uint32_t, uint32_t) { return handle(stream); }

int aclrtCreateEventExWithFlag(void **event, uint32_t) { return handle(event); }
}
