// Work on many things in pieces, so that the page stays responsive: one piece now, the others one a frame.

const LATEST = 100; // milliseconds after which a piece is done even where no frame is drawn, as in a hidden tab

/** Does `work(from, to)` for 0 to n in pieces of `size`, the piece with `first` at once. Returns what cancels it. */
export function inPieces(n: number, size: number, first: number, work: (from: number, to: number) => void): () => void {
  const pieces = Math.ceil(n / size);
  const at = Math.min(Math.max(0, pieces - 1), Math.floor(first / size));
  let done = 0;
  let cancelled = false;
  const step = () => {
    if (cancelled || done >= pieces) return;
    const piece = (at + done) % pieces;
    done++;
    work(piece * size, Math.min(n, (piece + 1) * size));
    if (done < pieces) next(step);
  };
  step();
  return () => {
    cancelled = true;
  };
}

function next(step: () => void): void {
  let called = false;
  const once = () => {
    if (called) return;
    called = true;
    step();
  };
  requestAnimationFrame(once);
  setTimeout(once, LATEST);
}
