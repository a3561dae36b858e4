//! Images made ready, from sources that lie.


