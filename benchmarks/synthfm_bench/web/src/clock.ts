// Seconds of thought: from seeing a mask to the next click. A pause, or a page in the background, is counted apart.

import type { Thought } from "./api";

export class ThoughtClock {
  private since = 0;
  private thought = 0;
  private pause = 0;
  private running = false;

  /** Begin to think about the mask that is shown now. */
  begin(): void {
    this.thought = this.pause = 0;
    this.since = performance.now();
    this.running = true;
  }

  /** Count what follows as a pause (false) or as thought (true). */
  run(thinking: boolean): void {
    this.add();
    this.running = thinking;
  }

  /** Return the seconds so far. */
  read(): Thought {
    this.add();
    return { thought_s: this.thought, pause_s: this.pause };
  }

  private add(): void {
    const now = performance.now();
    const seconds = (now - this.since) / 1000;
    if (this.running) this.thought += seconds;
    else this.pause += seconds;
    this.since = now;
  }
}
