/* A driver of the A5 generation: one number a device. It has the names of v1 too, which do not work there. */
#include "dcmi.h"

#include <stdio.h>

#define BEGIN(function)                                                                                                \
    int code = begin(function, device);                                                                                \
    if (code != OK)                                                                                                    \
        return code

int dcmi_init(void) {
    begin("dcmi_init", 0);
    return NOT_SUPPORTED;
}

int dcmiv2_init(void) { return begin("dcmiv2_init", 0); }

int dcmiv2_get_device_list(int *devices, int *count, int room) {
    *count = DEVICES;
    for (int i = 0; i < DEVICES && i < room; i++)
        devices[i] = i;
    return begin("dcmiv2_get_device_list", 0);
}

int dcmiv2_get_chip_phy_id_by_dev_id(unsigned int device, unsigned int *physical) {
    BEGIN("dcmiv2_get_chip_phy_id_by_dev_id");
    *physical = physical_ids[device];
    return OK;
}

int dcmiv2_get_dcmi_version(char *text, int room) {
    snprintf(text, (size_t)room, "26.0.0");
    return begin("dcmiv2_get_dcmi_version", 0);
}

int dcmiv2_get_device_chip_info(int device, struct dcmi_chip_v2 *info) {
    BEGIN("dcmiv2_get_device_chip_info");
    *info = (struct dcmi_chip_v2){"Ascend", "950", "V1", 64, "Ascend950PR"};
    return OK;
}

int dcmiv2_get_device_hbm_info(int device, struct dcmi_hbm *info) {
    BEGIN("dcmiv2_get_device_hbm_info");
    return fill_hbm(device, info);
}

int dcmiv2_get_device_multi_utilization_rate(int device, struct dcmi_multi_utilization *info) {
    BEGIN("dcmiv2_get_device_multi_utilization_rate");
    return fill_multi(device, info);
}

int dcmiv2_get_device_utilization_rate(int device, int unit, unsigned int *percent) {
    BEGIN("dcmiv2_get_device_utilization_rate");
    return fill_rate(device, unit, percent);
}

int dcmiv2_get_device_power_info(int device, int *power) {
    BEGIN("dcmiv2_get_device_power_info");
    *power = power_of(device);
    return OK;
}

int dcmiv2_get_device_temperature(int device, int *temperature) {
    BEGIN("dcmiv2_get_device_temperature");
    *temperature = temperature_of(device);
    return OK;
}

int dcmiv2_get_device_health(int device, unsigned int *health) {
    BEGIN("dcmiv2_get_device_health");
    *health = health_of(device);
    return OK;
}

int dcmiv2_get_device_ecc_info(int device, int kind, struct dcmi_ecc *info) {
    BEGIN("dcmiv2_get_device_ecc_info");
    return fill_ecc(device, kind, info);
}

int dcmiv2_get_device_proc_mem_info(int device, struct dcmi_process *entries, int *count) {
    BEGIN("dcmiv2_get_device_proc_mem_info");
    return fill_processes(device, entries, count);
}
