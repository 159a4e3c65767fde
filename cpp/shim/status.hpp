// What a program sees of a node when it asks what that is.
#pragma once

#include <string.h>
#include <sys/stat.h>

namespace viommu::shim {

// A character device that anybody may use; 0.
int describe(int node, struct stat* status);
int describe(int node, struct stat64* status);
int describe(int node, struct statx* status);

// The path of the node that a file of the service, an inode, is of; false where it is of none.
bool put_node_name(unsigned long file, char* room, unsigned long size);

// Which node an open descriptor is of, or -1. `file`: its inode.
int node_of_file(int fd, unsigned long file);

}  // namespace viommu::shim
