/* The rules between the settings that say who may call: a mistake there would leave a door open, or
 * shut it to everybody. */
#ifndef DARKROOM_APP_SETTINGS_AUTH_H
#define DARKROOM_APP_SETTINGS_AUTH_H

#include "app/settings.h"

/* Append what is wrong, one line each. Fields may be NULL. */
void settings_check_auth(const struct settings *settings, struct buffer *mistakes);

#endif
