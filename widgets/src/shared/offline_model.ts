// A widget model without a kernel, for offline pages: it holds state and calls listeners.

type Listener = (...args: unknown[]) => void;

export class OfflineModel {
  private readonly state: Record<string, unknown>;
  private readonly listeners = new Map<string, Set<Listener>>();

  constructor(state: Record<string, unknown>) {
    this.state = { ...state };
  }

  get(name: string): unknown {
    return this.state[name];
  }

  set(name: string, value: unknown): void {
    if (Object.is(this.state[name], value)) return;
    this.state[name] = value;
    for (const callback of [...(this.listeners.get(`change:${name}`) ?? [])]) callback();
  }

  on(event: string, callback: Listener): void {
    const known = this.listeners.get(event) ?? new Set<Listener>();
    this.listeners.set(event, known.add(callback));
  }

  off(event?: string | null, callback?: Listener | null): void {
    if (!event) this.listeners.clear();
    else if (callback) this.listeners.get(event)?.delete(callback);
    else this.listeners.delete(event);
  }

  save_changes(): void {} // there is no kernel to send to

  /** Answers as Python does to a ping, so that no widget waits; nothing else has an answer. */
  send(content?: unknown): void {
    const { kind, n } = (content ?? {}) as { kind?: unknown; n?: unknown };
    if (kind !== "ping") return;
    for (const callback of [...(this.listeners.get("msg:custom") ?? [])]) callback({ kind: "pong", n });
  }
}

/** The state as Python wrote it, with {"$bytes": base64} turned back into bytes. */
export function decodeState(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(decodeState);
  if (value === null || typeof value !== "object") return value;
  const entries = Object.entries(value);
  const [key, text] = entries[0] ?? [];
  if (entries.length === 1 && key === "$bytes" && typeof text === "string") {
    const raw = atob(text);
    return new DataView(Uint8Array.from(raw, (c) => c.charCodeAt(0)).buffer);
  }
  return Object.fromEntries(entries.map(([name, inner]) => [name, decodeState(inner)]));
}
