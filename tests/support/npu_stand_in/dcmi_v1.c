/* A driver of the A2 generation: cards and chips, HBM and no DDR. */
#include "dcmi.h"

#include <stdio.h>

extern int stand_in_devices;

#define BEGIN(function)                                                                                                \
    int device = card_of(card, chip);                                                                                  \
    int code = begin(function, device);                                                                                \
    if (code != OK)                                                                                                    \
        return code

int dcmi_init(void) { return begin("dcmi_init", 0); }

static int list_cards(const char *function, int *count, int *cards, int room) {
    int code = begin(function, 0);
    if (code != OK)
        return code;
    *count = stand_in_devices;
    for (int i = 0; i < *count && i < room; i++)
        cards[i] = card_ids[i];
    return OK;
}

int dcmi_get_card_list(int *count, int *cards, int room) { return list_cards("dcmi_get_card_list", count, cards, room); }

/* The old name of the same. */
int dcmi_get_card_num_list(int *count, int *cards, int room) {
    return list_cards("dcmi_get_card_num_list", count, cards, room);
}

int dcmi_get_device_id_in_card(int card, int *chips, int *mcu, int *cpu) {
    int chip = 0;
    BEGIN("dcmi_get_device_id_in_card");
    *chips = stand_in_chips;
    *mcu = 1;
    *cpu = -1;
    return OK;
}

int dcmi_get_device_num_in_card(int card, int *chips) {
    int chip = 0;
    BEGIN("dcmi_get_device_num_in_card");
    *chips = stand_in_chips;
    return OK;
}

int dcmi_get_device_logic_id(int *logical, int card, int chip) {
    BEGIN("dcmi_get_device_logic_id");
    *logical = device;
    return OK;
}

int dcmi_get_device_phyid_from_logicid(unsigned int logical, unsigned int *physical) {
    int code = begin("dcmi_get_device_phyid_from_logicid", (int)logical);
    if (code == OK)
        *physical = physical_ids[logical];
    return code;
}

int dcmi_get_driver_version(char *text, unsigned int room) {
    snprintf(text, room, "24.1.rc3");
    return begin("dcmi_get_driver_version", 0);
}

int dcmi_get_device_chip_info_v2(int card, int chip, struct dcmi_chip_v2 *info) {
    BEGIN("dcmi_get_device_chip_info_v2");
    *info = (struct dcmi_chip_v2){"Ascend", "910B4", "V1", 20, "910B4"};
    return OK;
}

int dcmi_get_device_hbm_info(int card, int chip, struct dcmi_hbm *info) {
    BEGIN("dcmi_get_device_hbm_info");
    return fill_hbm(device, info);
}

int dcmi_get_device_memory_info_v3(int card, int chip, struct dcmi_memory *info) {
    BEGIN("dcmi_get_device_memory_info_v3");
    (void)info;
    return NOT_SUPPORTED;
}

int dcmi_get_device_multi_utilization_rate(int card, int chip, struct dcmi_multi_utilization *info) {
    BEGIN("dcmi_get_device_multi_utilization_rate");
    return fill_multi(device, info);
}

int dcmi_get_device_utilization_rate(int card, int chip, int unit, unsigned int *percent) {
    BEGIN("dcmi_get_device_utilization_rate");
    return fill_rate(device, unit, percent);
}

int dcmi_get_device_power_info(int card, int chip, int *power) {
    BEGIN("dcmi_get_device_power_info");
    *power = power_of(device);
    return OK;
}

int dcmi_get_device_temperature(int card, int chip, int *temperature) {
    BEGIN("dcmi_get_device_temperature");
    *temperature = temperature_of(device);
    return OK;
}

int dcmi_get_device_health(int card, int chip, unsigned int *health) {
    BEGIN("dcmi_get_device_health");
    *health = health_of(device);
    return OK;
}

int dcmi_get_device_ecc_info(int card, int chip, int kind, struct dcmi_ecc *info) {
    BEGIN("dcmi_get_device_ecc_info");
    return fill_ecc(device, kind, info);
}

int dcmi_get_device_resource_info(int card, int chip, struct dcmi_process *entries, int *count) {
    BEGIN("dcmi_get_device_resource_info");
    return fill_processes(device, entries, count);
}
