/* Stands in for libmspti.so: the same functions and record layouts, records made by whoever calls standin_*. */
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MARKER = 1, KERNEL, API, HCCL, MEMORY, MEMSET, MEMCPY, EXTERNAL_CORRELATION, COMMUNICATION, KINDS };
enum { OK = 0, INVALID = 1, MULTIPLE = 2, END = 3, NO_PRELOAD = 6, INNER = 999 };

#define RECORD struct __attribute__((packed, aligned(8)))

typedef RECORD {
    uint32_t kind, flag, source_kind;
    uint64_t timestamp, id;
    uint32_t process, thread;
    const char *name, *domain;
} Marker;
typedef RECORD {
    uint32_t kind;
    uint64_t start, end;
    uint32_t device, stream;
    uint64_t correlation;
    const char *type, *name;
} Kernel;
typedef RECORD {
    uint32_t kind;
    uint64_t start, end;
    uint32_t process, thread;
    uint64_t correlation;
    const char *name;
} Api;
typedef RECORD {
    uint32_t kind, operation, memory_kind;
    uint64_t correlation, start, end, address, bytes;
    uint32_t process, device, stream;
} Memory;
typedef RECORD {
    uint32_t kind, copy_kind;
    uint64_t bytes, start, end;
    uint32_t device, stream;
    uint64_t correlation;
    uint8_t asynchronous;
} Memcpy;
typedef RECORD {
    uint32_t kind, external_kind;
    uint64_t external, correlation;
} External;
typedef RECORD {
    uint32_t kind, data_type;
    uint64_t count;
    uint32_t device, stream;
    uint64_t start, end;
    const char *algorithm, *name, *group;
    uint64_t correlation;
} Communication;

_Static_assert(sizeof(Marker) == 56 && offsetof(Marker, name) == 36 && offsetof(Marker, domain) == 44, "marker");
_Static_assert(sizeof(Kernel) == 56 && offsetof(Kernel, start) == 4 && offsetof(Kernel, name) == 44, "kernel");
_Static_assert(sizeof(Api) == 48 && offsetof(Api, correlation) == 28 && offsetof(Api, name) == 36, "api");
_Static_assert(sizeof(Memory) == 64 && offsetof(Memory, bytes) == 44 && offsetof(Memory, device) == 56, "memory");
_Static_assert(sizeof(Memcpy) == 56 && offsetof(Memcpy, correlation) == 40, "memcpy");
_Static_assert(sizeof(External) == 24 && offsetof(External, correlation) == 16, "external");
_Static_assert(sizeof(Communication) == 72 && offsetof(Communication, correlation) == 64, "communication");
_Static_assert(offsetof(Communication, name) == 48 && offsetof(Communication, group) == 56, "communication");

typedef void (*Request)(uint8_t **, size_t *, size_t *);
typedef void (*Complete)(uint8_t *, size_t, size_t);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Request request;
static Complete complete;
bool standin_subscribed;
static bool enabled[KINDS];
static uint8_t *buffer;
static size_t capacity, used;
static pthread_t threads[4096];
static int running;
static size_t sizes[KINDS] = {
    [MARKER] = sizeof(Marker), [KERNEL] = sizeof(Kernel), [API] = sizeof(Api), [HCCL] = 56, [MEMORY] = sizeof(Memory),
    [MEMSET] = 56, [MEMCPY] = sizeof(Memcpy), [EXTERNAL_CORRELATION] = sizeof(External),
    [COMMUNICATION] = sizeof(Communication),
};

/* What the tests read and set. */
uint64_t standin_made, standin_dropped, standin_truncate;
int standin_stall_flush, standin_stall_subscribe, standin_unsubscribed;
static __thread uint64_t external_ids[16];
static __thread int external_depth, external_kind;

typedef struct {
    uint8_t *buffer;
    size_t capacity, used;
    Complete complete;
} Handed;

static void *hand_over(void *argument) {
    Handed handed = *(Handed *)argument;
    free(argument);
    handed.complete(handed.buffer, handed.capacity, handed.used);
    return NULL;
}

static Handed *take(void) {
    Handed *handed = malloc(sizeof *handed);
    *handed = (Handed){buffer, capacity, used > standin_truncate ? used - standin_truncate : used, complete};
    buffer = NULL;
    return handed;
}

static void make(const void *record, int kind) {
    pthread_mutex_lock(&lock);
    if (enabled[kind]) {
        if (!buffer && request) {
            size_t most = 0;
            request(&buffer, &capacity, &most);
            used = 0;
        }
        if (buffer && used + sizes[kind] <= capacity) {
            memcpy(buffer + used, record, sizes[kind]);
            used += sizes[kind];
            standin_made++;
            if (used >= capacity / 10 * 8)
                pthread_create(&threads[running++], NULL, hand_over, take());
        } else {
            standin_dropped++;
        }
    }
    pthread_mutex_unlock(&lock);
}

int msptiSubscribe(void **subscriber, void *callback, void *user) {
    (void)callback, (void)user;
    while (standin_stall_subscribe)
        usleep(1000);
    if (standin_subscribed)
        return MULTIPLE;
    standin_subscribed = true;
    *subscriber = &standin_subscribed;
    return OK;
}

int msptiUnsubscribe(void *subscriber) {
    if (subscriber != &standin_subscribed || !standin_subscribed)
        return INVALID;
    standin_subscribed = false;
    standin_unsubscribed++;
    return OK;
}

int msptiActivityRegisterCallbacks(Request on_request, Complete on_complete) {
    request = on_request;
    complete = on_complete;
    return OK;
}

static bool preloaded(void) {
    const char *list = getenv("LD_PRELOAD");
    return list && strstr(list, "libmspti.so");
}

int msptiActivityEnable(int kind) {
    if (kind < 1 || kind >= KINDS)
        return INVALID;
    if ((kind == HCCL || kind == MEMORY || kind == MEMSET || kind == MEMCPY) && !preloaded())
        return NO_PRELOAD;
    enabled[kind] = true;
    return OK;
}

int msptiActivityDisable(int kind) {
    enabled[kind] = false;
    return OK;
}

/* As the vendor's: the cursor is the thread's own, and where it stands decides, not the buffer. */
int msptiActivityGetNextRecord(uint8_t *data, size_t valid, void **record) {
    static __thread uint8_t *next;
    if (!next)
        next = data;
    if (next >= data + valid) {
        next = NULL;
        return END;
    }
    uint32_t kind = *(uint32_t *)next;
    if (kind < 1 || kind >= KINDS)
        return INNER; /* and the next call of this thread goes on here, as with the vendor's library */
    *record = next;
    next += sizes[kind];
    return OK;
}

int msptiActivityFlushAll(uint32_t flag) {
    (void)flag;
    while (standin_stall_flush)
        usleep(1000);
    pthread_mutex_lock(&lock);
    Handed *handed = buffer && used ? take() : NULL;
    int count = running;
    running = 0;
    pthread_mutex_unlock(&lock);
    for (int number = 0; number < count; number++)
        pthread_join(threads[number], NULL);
    if (handed)
        hand_over(handed);
    return OK;
}

int msptiActivityPushExternalCorrelationId(int kind, uint64_t id) {
    if (kind < 1 || kind > 4 || external_depth == 16)
        return INVALID;
    external_kind = kind;
    external_ids[external_depth++] = id;
    return OK;
}

int msptiActivityPopExternalCorrelationId(int kind, uint64_t *last) {
    if (kind < 1 || kind > 4 || !external_depth)
        return INVALID;
    *last = external_ids[--external_depth];
    return OK;
}

void standin_set_size(int kind, size_t size) { sizes[kind] = size; }

void standin_kernel(uint64_t start, uint64_t end, uint32_t device, uint64_t correlation, const char *type, const char *name) {
    Kernel record = {KERNEL, start, end, device, 7, correlation, type, name};
    make(&record, KERNEL);
}

/* A launch: with the id that the calling thread has pushed. */
void standin_api(uint64_t start, uint64_t end, uint32_t thread, uint64_t correlation, const char *name) {
    Api record = {API, start, end, (uint32_t)getpid(), thread, correlation, name};
    make(&record, API);
    if (external_depth) {
        External external = {EXTERNAL_CORRELATION, external_kind, external_ids[external_depth - 1], correlation};
        make(&external, EXTERNAL_CORRELATION);
    }
}

void standin_communication(uint64_t start, uint64_t end, uint64_t count, uint32_t type, const char *name, const char *group) {
    Communication record = {COMMUNICATION, type, count, 0, 9, start, end, "ring", name, group, 77};
    make(&record, COMMUNICATION);
}

void standin_memcpy(uint64_t start, uint64_t end, uint64_t bytes, uint32_t copy_kind) {
    Memcpy record = {MEMCPY, copy_kind, bytes, start, end, 0, 7, 5, 1};
    make(&record, MEMCPY);
}

void standin_memory(uint64_t time, uint64_t bytes, uint32_t operation) {
    Memory record = {MEMORY, operation, 1, 6, time, time + 10, 4096, bytes, (uint32_t)getpid(), 0, 7};
    make(&record, MEMORY);
}

void standin_marker(uint32_t flag, uint32_t source, uint64_t time, uint64_t id, const char *name) {
    Marker record = {MARKER, flag, source, time, id, (uint32_t)getpid(), 4242, name, "default"};
    make(&record, MARKER);
}

typedef struct {
    uint64_t count, base;
} Work;

static const char *const NAMES[8] = {
    "aclnnMm_MatMulV2AiCore_MatMulV2", "aclnnAdd_AddAiCore_Add", "aclnnMul_MulAiCore_Mul", "RmsNorm", "SwiGlu",
    "FlashAttentionScore", "aclnnCast_CastAiCore_Cast", "RotaryMul",
};

static void *produce(void *argument) {
    Work work = *(Work *)argument;
    for (uint64_t number = 0; number < work.count; number++)
        standin_kernel(work.base + number * 1000, work.base + number * 1000 + 500 + number % 8, 0, number,
                       number % 8 ? "KERNEL_AIVEC" : "KERNEL_AICORE", NAMES[number % 8]);
    return NULL;
}

/* So many kernels of 8 names from each of so many threads. */
void standin_produce(int count_threads, uint64_t count, uint64_t base) {
    pthread_t workers[64];
    Work work = {count, base};
    for (int number = 0; number < count_threads; number++)
        pthread_create(&workers[number], NULL, produce, &work);
    for (int number = 0; number < count_threads; number++)
        pthread_join(workers[number], NULL);
}
