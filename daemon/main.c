/*
 * sdd: the front process. It keeps the promises to clients and the books about their jobs, and leaves the painting to
 * sdd-worker, so that no fault of an engine, a driver or a model file can take a client's connection down.
 */
#include "daemon/program.h"

int main(int argc, char **argv)
{
	return sdd_program(argc, argv, sdd_spawn_worker);
}
