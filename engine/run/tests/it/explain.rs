//! Why a run is where it is, as people read it and as machines do.
