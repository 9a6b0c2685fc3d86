/* Stands in for libmsprofiler.so: the functions of acl_prof.h. It insists on their order, makes a raw PROF_ folder, and
   appends each call to $STAND_IN_ACLPROF_LOG. $STAND_IN_ACLPROF_REFUSE names a function that returns 5, or NULL. Stop
   waits for the file $STAND_IN_ACLPROF_STOP_AFTER. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, WRONG_ORDER = 7, REFUSED = 5 };

typedef struct {
    uint32_t device;
} Config;

static char result[3000];
static int initialised, running, made;

static int called(const char *name, const char *details) {
    const char *path = getenv("STAND_IN_ACLPROF_LOG"), *refused = getenv("STAND_IN_ACLPROF_REFUSE");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file) {
        fprintf(file, "%s%s%s\n", name, *details ? " " : "", details);
        fclose(file);
    }
    return refused && strcmp(refused, name) == 0 ? REFUSED : OK;
}

int aclprofInit(const char *path, size_t length) {
    char details[3100];
    snprintf(details, sizeof details, "%.*s", (int)length, path);
    int code = called("Init", details);
    if (code) return code;
    if (initialised || length >= sizeof result) return WRONG_ORDER;
    memcpy(result, path, length);
    result[length] = 0;
    initialised = 1;
    return OK;
}

int aclprofSetConfig(int type, const char *value, size_t length) {
    char details[200];
    snprintf(details, sizeof details, "%d %.*s", type, (int)length, value);
    int code = called("SetConfig", details);
    return code ? code : initialised ? OK : WRONG_ORDER;
}

void *aclprofCreateConfig(uint32_t *devices, uint32_t number, int metrics, void *events, uint64_t types) {
    char details[200];
    snprintf(details, sizeof details, "%u %u %d 0x%llx", number, devices[0], metrics, (unsigned long long)types);
    if (called("CreateConfig", details) || !initialised || events) return NULL;
    Config *config = malloc(sizeof *config);
    config->device = devices[0];
    return config;
}

int aclprofStart(const Config *config) {
    int code = called("Start", "");
    if (code) return code;
    if (!initialised || running) return WRONG_ORDER;
    char path[4096];
    int end = snprintf(path, sizeof path, "%s/PROF_%06d_%lld_STANDIN", result, ++made, (long long)time(NULL));
    mkdir(path, 0750);
    snprintf(path + end, sizeof path - end, "/host");
    mkdir(path, 0750);
    snprintf(path + end, sizeof path - end, "/device_%u", config->device);
    mkdir(path, 0750);
    running = 1;
    return OK;
}

int aclprofStop(const Config *config) {
    (void)config;
    const char *file = getenv("STAND_IN_ACLPROF_STOP_AFTER");
    while (file && access(file, F_OK)) usleep(1000);
    int code = called("Stop", ""), was = running;
    running = 0;
    return code ? code : was ? OK : WRONG_ORDER;
}

int aclprofDestroyConfig(Config *config) {
    free(config);
    return called("DestroyConfig", "");
}

int aclprofFinalize(void) {
    int code = called("Finalize", ""), was = initialised;
    initialised = 0;
    return code ? code : was ? OK : WRONG_ORDER;
}
