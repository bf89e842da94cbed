/* What the .proto files say, for reflection: protoc writes their descriptors (google.protobuf.
 * FileDescriptorSet) when the programs are built, and they are part of them. Pure; thread-safe. */
#pragma once

#include "base/bytes.h"

/* The file, a FileDescriptorProto, with that path below proto/. */
bool reflection_file(const char *path, struct bytes *ret) NODISCARD;
/* The file that describes this service, method, message, field or enum. */
bool reflection_file_of(const char *symbol, struct bytes *ret) NODISCARD;

enum { REFLECTION_NAME_MAX = 128 };
/* The full name of the service with that index over all files; false: there are fewer. */
bool reflection_service(size_t index, char ret[REFLECTION_NAME_MAX]) NODISCARD;
