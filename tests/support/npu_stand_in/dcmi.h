/* Layouts of DCMI (LP64), as far as the stand-ins give them; sizes and offsets are those measured with the published
 * headers, and the same as in ascend_opentelemetry/npu/dcmi/_abi.py, which a test compares with these assertions. */
#ifndef STAND_IN_DCMI_H
#define STAND_IN_DCMI_H

#include <stddef.h>

struct dcmi_hbm {
    unsigned long long memory_size;
    unsigned int freq;
    unsigned long long memory_usage;
    int temp;
    unsigned int bandwith_util_rate;
};
_Static_assert(sizeof(struct dcmi_hbm) == 32, "size");
_Static_assert(offsetof(struct dcmi_hbm, memory_usage) == 16, "usage");
_Static_assert(offsetof(struct dcmi_hbm, temp) == 24, "temp");
_Static_assert(offsetof(struct dcmi_hbm, bandwith_util_rate) == 28, "bandwidth");

struct dcmi_memory {
    unsigned long long memory_size;
    unsigned long long memory_available;
    unsigned int freq;
    unsigned long hugepagesize;
    unsigned long hugepages_total;
    unsigned long hugepages_free;
    unsigned int utiliza;
    unsigned char reserve[60];
};
_Static_assert(sizeof(struct dcmi_memory) == 112, "size");
_Static_assert(offsetof(struct dcmi_memory, memory_available) == 8, "available");
_Static_assert(offsetof(struct dcmi_memory, hugepagesize) == 24, "huge pages");
_Static_assert(offsetof(struct dcmi_memory, utiliza) == 48, "utilization");

struct dcmi_multi_utilization {
    unsigned int aic_util, aiv_util, aicore_util, npu_util;
    unsigned int reserved[8];
};
_Static_assert(sizeof(struct dcmi_multi_utilization) == 48, "size");

struct dcmi_process {
    int proc_id;
    unsigned long proc_mem_usage;
};
_Static_assert(sizeof(struct dcmi_process) == 16, "size");
_Static_assert(offsetof(struct dcmi_process, proc_mem_usage) == 8, "usage");

struct dcmi_ecc {
    int enable_flag;
    unsigned int single_bit, double_bit, total_single_bit, total_double_bit;
    unsigned int single_bit_pages, double_bit_pages;
};
_Static_assert(sizeof(struct dcmi_ecc) == 28, "size"); /* others know 36 bytes: readers have room for them */
_Static_assert(offsetof(struct dcmi_ecc, total_single_bit) == 12, "single bits of the life");
_Static_assert(offsetof(struct dcmi_ecc, total_double_bit) == 16, "double bits of the life");

struct dcmi_chip {
    char chip_type[32], chip_name[32], chip_ver[32];
    unsigned int aicore_cnt;
};
_Static_assert(sizeof(struct dcmi_chip) == 100, "size");

struct dcmi_chip_v2 {
    char chip_type[32], chip_name[32], chip_ver[32];
    unsigned int aicore_cnt;
    char npu_name[32];
};
_Static_assert(sizeof(struct dcmi_chip_v2) == 132, "size");
_Static_assert(offsetof(struct dcmi_chip_v2, npu_name) == 100, "name");

enum { OK = 0, NO_DEVICE = -8008, NOT_SUPPORTED = -8255 };
enum { AICORE = 2, AICPU = 3, VECTOR = 12, NPU = 13, CUBE = 14 };
enum { DDR_ECC = 0, HBM_ECC = 2 };

/* The cards: two chips, whose values no two fields share. `device` is 0 or 1. */
enum { DEVICES = 2 };
extern const int card_ids[DEVICES];
extern unsigned int physical_ids[DEVICES];
extern int stand_in_chips;
int card_of(int card, int chip); /* device number, or -1 */
int begin(const char *function, int device); /* counts the call; what it is to return before anything else */
int fill_hbm(int device, struct dcmi_hbm *info);
int fill_memory(int device, struct dcmi_memory *info);
int fill_multi(int device, struct dcmi_multi_utilization *info);
int fill_rate(int device, int unit, unsigned int *percent);
int fill_ecc(int device, int kind, struct dcmi_ecc *info);
int fill_processes(int device, struct dcmi_process *entries, int *count);
int power_of(int device);
int temperature_of(int device);
unsigned int health_of(int device);

#endif
