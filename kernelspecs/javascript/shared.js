'use strict';
/** Indices into the Int32Array that both threads share, and one value. */
module.exports = {
  /** 1 once any execution was interrupted: until then the checks after every await cost next to nothing. */
  ANY_INTERRUPT: 0,
  /** Id of the execution that was interrupted last: seen by running code at once, without an event loop. */
  INTERRUPTED: 1,
  /** Number of the last barrier the protocol thread has passed. */
  BARRIER: 2,
  /** The barrier after which nothing is sent any more; far above all others. */
  ALL_SENT: 0x7fffffff,
  /** Number of synchronous inputs that were answered. */
  INPUT: 3,
};
