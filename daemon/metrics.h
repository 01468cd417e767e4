/*
 * Figures for monitoring, as OpenMetrics text (openmetrics.io, version 1.0), on request over the socket: no port is opened.
 */
#pragma once

#include "daemon/server.h"

/* The whole exposition, ended by "# EOF". Owned by the caller; NULL when memory is short. */
char *sdd_metrics_text(struct sdd_server *server);
