// SIGINT and SIGTERM as a request: the first is remembered, so that the work can be saved; the
// second ends the process at once.
#pragma once

namespace vyx::apps {

void catch_stop_signals();
/// The signal that came, or 0.
int stop_signal();

}  // namespace vyx::apps
