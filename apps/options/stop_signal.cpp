#include "apps/options/stop_signal.h"

#include <unistd.h>

#include <csignal>

namespace vyx::apps {
namespace {

volatile std::sig_atomic_t caught = 0;

void on_signal(int signal) {
  if (caught != 0) ::_exit(128 + signal);
  caught = signal;
}

}  // namespace

void catch_stop_signals() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGINT, SIGTERM}) ::sigaction(signal, &action, nullptr);
}

int stop_signal() {
  return caught;
}

}  // namespace vyx::apps
