/* `preprocess-service --catalogue COMMAND`: work on the catalogue, whether the service runs or not.
 */
#pragma once

/* The exit status: 0, 1 when it failed, 2 for a mistake in arguments or settings. */
int catalogue_command(int argc, char **argv);
