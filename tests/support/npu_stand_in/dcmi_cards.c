/* What the stand-ins have in common: two chips, counted calls, refused calls and slow ones. */
#include "dcmi.h"

#include <string.h>
#include <unistd.h>

enum { ENTRIES = 64 };

const int card_ids[DEVICES] = {0, 4};
unsigned int physical_ids[DEVICES] = {2, 6};

/* For tests. */
int stand_in_delay_us;
int stand_in_devices = DEVICES;
int stand_in_chips = 1; /* of each card, as v1 tells */
int stand_in_pids[DEVICES] = {0, 1}; /* 0: the process that asks */

static struct {
    const char *function;
    int calls;
} calls[ENTRIES];

static struct {
    char function[64];
    int device, code;
} refusals[ENTRIES];
static int refusal_count;

int stand_in_calls(const char *function) {
    int sum = 0;
    for (int i = 0; i < ENTRIES && calls[i].function; i++)
        if (!*function || strcmp(calls[i].function, function) == 0)
            sum += calls[i].calls;
    return sum;
}

/* From now on `function` returns `code` for `device`; for -1: for all. */
void stand_in_refuse(const char *function, int device, int code) {
    strncpy(refusals[refusal_count].function, function, sizeof refusals[0].function - 1);
    refusals[refusal_count].device = device;
    refusals[refusal_count++].code = code;
}

void stand_in_allow_all(void) { refusal_count = 0; }

int begin(const char *function, int device) {
    int i = 0;
    while (calls[i].function && strcmp(calls[i].function, function) != 0)
        i++;
    calls[i].function = function;
    calls[i].calls++;
    if (stand_in_delay_us)
        usleep(stand_in_delay_us);
    for (i = 0; i < refusal_count; i++)
        if (strcmp(refusals[i].function, function) == 0 && (refusals[i].device < 0 || refusals[i].device == device))
            return refusals[i].code;
    return device >= DEVICES ? NO_DEVICE : OK;
}

int card_of(int card, int chip) {
    for (int i = 0; i < DEVICES; i++)
        if (card_ids[i] == card && chip == 0)
            return i;
    return DEVICES;
}

int fill_hbm(int device, struct dcmi_hbm *info) {
    static const struct dcmi_hbm hbm[DEVICES] = {{65536, 1600, 61234, 48, 37}, {32768, 1600, 1024, 39, 200}};
    *info = hbm[device];
    return OK;
}

int fill_memory(int device, struct dcmi_memory *info) {
    *info = (struct dcmi_memory){.memory_size = 16384, .memory_available = 16384 - 512 * (device + 1), .utiliza = 3};
    return OK;
}

/* The second chip is being profiled: 0xEF is no value. */
static const unsigned int npu[DEVICES] = {70, 0xEF}, aicore[DEVICES] = {66, 0xEF}, cube[DEVICES] = {65, 20},
                          vector[DEVICES] = {12, 30}, aicpu[DEVICES] = {3, 4};

int fill_multi(int device, struct dcmi_multi_utilization *info) {
    *info = (struct dcmi_multi_utilization){cube[device], vector[device], aicore[device], npu[device], {0}};
    return OK;
}

int fill_rate(int device, int unit, unsigned int *percent) {
    switch (unit) {
    case NPU: *percent = npu[device]; return OK;
    case AICORE: *percent = aicore[device]; return OK;
    case CUBE: *percent = cube[device]; return OK;
    case VECTOR: *percent = vector[device]; return OK;
    case AICPU: *percent = aicpu[device]; return OK;
    default: return NOT_SUPPORTED;
    }
}

int fill_ecc(int device, int kind, struct dcmi_ecc *info) {
    if (kind != HBM_ECC)
        return NOT_SUPPORTED;
    *info = (struct dcmi_ecc){.enable_flag = 1, .single_bit = 1, .total_single_bit = 5 + device, .total_double_bit = device};
    return OK;
}

int fill_processes(int device, struct dcmi_process *entries, int *count) {
    *count = DEVICES;
    for (int i = 0; i < DEVICES; i++) {
        entries[i].proc_id = stand_in_pids[i] ? stand_in_pids[i] : getpid();
        entries[i].proc_mem_usage = (1ul << 30) * (device + 1) + i;
    }
    return OK;
}

int power_of(int device) { return device ? 905 : 2973; }
int temperature_of(int device) { return device ? 40 : 51; }
unsigned int health_of(int device) { return device ? 2 : 0; }
