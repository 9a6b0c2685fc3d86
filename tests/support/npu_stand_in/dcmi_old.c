/* An old driver: the first names, units one by one, HBM and DDR, and neither processes nor ids of chips. */
#include "dcmi.h"

#define BEGIN(function)                                                                                                \
    int device = card_of(card, chip);                                                                                  \
    int code = begin(function, device);                                                                                \
    if (code != OK)                                                                                                    \
        return code

int dcmi_init(void) { return begin("dcmi_init", 0); }

int dcmi_get_card_num_list(int *count, int *cards, int room) {
    *count = DEVICES;
    for (int i = 0; i < DEVICES && i < room; i++)
        cards[i] = card_ids[i];
    return begin("dcmi_get_card_num_list", 0);
}

int dcmi_get_device_num_in_card(int card, int *chips) {
    int chip = 0;
    BEGIN("dcmi_get_device_num_in_card");
    *chips = 1;
    return OK;
}

int dcmi_get_device_chip_info(int card, int chip, struct dcmi_chip *info) {
    BEGIN("dcmi_get_device_chip_info");
    *info = (struct dcmi_chip){"Ascend", "910", "V1", 32};
    return OK;
}

int dcmi_get_device_hbm_info(int card, int chip, struct dcmi_hbm *info) {
    BEGIN("dcmi_get_device_hbm_info");
    return fill_hbm(device, info);
}

int dcmi_get_device_memory_info_v3(int card, int chip, struct dcmi_memory *info) {
    BEGIN("dcmi_get_device_memory_info_v3");
    return fill_memory(device, info);
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
