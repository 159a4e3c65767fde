/* Stands in for liburing, where what matters is whether it is called: each function answers 7. */
#define ANSWERS(name)                                                                                                  \
    int name(void) { return 7; }
ANSWERS(io_uring_submit)
ANSWERS(io_uring_submit_and_wait)
ANSWERS(io_uring_submit_and_wait_timeout)
ANSWERS(io_uring_submit_and_get_events)
ANSWERS(io_uring_register_files)
ANSWERS(io_uring_register_files_tags)
ANSWERS(io_uring_register_files_update)
ANSWERS(io_uring_register_files_update_tag)
