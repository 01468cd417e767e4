/*
 * What a script gets beside the layer.
 */
#pragma once

#include "plugins/common/task.h"

/* One line of JSON: {"read_ms":..,"plan_ms":..,"transport_ms":..,"queue_ms":..,"compute_ms":..,"insert_ms":..,"total_ms":..,"sent_bytes":..}; g_free it. */
char *sdg_report(const struct sdh_task *task);
