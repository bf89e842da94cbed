/* preprocess-service --users …: accounts from the command line. */
#pragma once

/* The exit status. */
int users_command(int argc, char **argv);
