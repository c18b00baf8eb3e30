#include "apps/options/stop_signal.h"

#include <unistd.h>

#include <csignal>

#include "core/io/temporary_files.h"

namespace vyx::apps {
namespace {

volatile std::sig_atomic_t caught = 0;

void end(int signal) {
  remove_temporaries();
  ::_exit(128 + signal);
}

void remember(int signal) {
  if (caught != 0) end(signal);
  caught = signal;
}

bool is_ignored(int signal) {
  struct sigaction old = {};
  return ::sigaction(signal, nullptr, &old) == 0 && old.sa_handler == SIG_IGN;
}

void handle(int signal, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  ::sigaction(signal, &action, nullptr);
}

}  // namespace

void end_at_stop_signals() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE})
    if (!is_ignored(signal)) handle(signal, end);
}

void catch_stop_signals() {
  for (const int signal : {SIGINT, SIGTERM}) handle(signal, remember);
  if (!is_ignored(SIGHUP)) handle(SIGHUP, remember);
}

int stop_signal() {
  return caught;
}

}  // namespace vyx::apps
