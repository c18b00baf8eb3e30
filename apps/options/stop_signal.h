// SIGINT, SIGTERM and SIGHUP: what they do to a program. None leaves a temporary file behind.
#pragma once

namespace vyx::apps {

/// They end the process with 128 + the signal (so does SIGPIPE), after its temporary files are
/// removed. Those that are ignored, as nohup and a shell's & have it, stay ignored.
void end_at_stop_signals();

/// From now on they are a request: the first is remembered, so that the work can be saved; the
/// second ends the process as above.
void catch_stop_signals();
/// The signal that came, or 0.
int stop_signal();

}  // namespace vyx::apps
