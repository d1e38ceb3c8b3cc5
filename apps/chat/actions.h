/* What a person can do, in whatever protocol it asks. Each answers the person, tells the others, or
 * says why not. Called in handlers of the person's session, with the person in a room. */
#ifndef APPS_CHAT_ACTIONS_H
#define APPS_CHAT_ACTIONS_H

#include "text.h"

struct person;

/* Names may be anything a stranger sends; texts are clean. */
void action_say(struct person *person, struct text text);
void action_tell(struct person *person, struct text name, struct text text);
void action_rename(struct person *person, struct text name);
void action_join(struct person *person, struct text room);
void action_who(struct person *person);
void action_rooms(struct person *person);
void action_quit(struct person *person);

#endif
