// A widget model with no kernel behind it: state, listeners, nothing else.

type Listener = (...args: unknown[]) => void;

export class HostModel {
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
    for (const act of [...(this.listeners.get(`change:${name}`) ?? [])]) act();
  }

  on(event: string, act: Listener): void {
    const known = this.listeners.get(event) ?? new Set<Listener>();
    this.listeners.set(event, known.add(act));
  }

  off(event?: string | null, act?: Listener | null): void {
    if (!event) this.listeners.clear();
    else if (act) this.listeners.get(event)?.delete(act);
    else this.listeners.delete(event);
  }

  save_changes(): void {} // there is nobody to tell
  send(): void {}
}

/** The state as Python wrote it, with {"$bytes": base64} turned back into bytes. */
export function decode(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(decode);
  if (value === null || typeof value !== "object") return value;
  const entries = Object.entries(value);
  const [key, text] = entries[0] ?? [];
  if (entries.length === 1 && key === "$bytes" && typeof text === "string") {
    const raw = atob(text);
    return new DataView(Uint8Array.from(raw, (c) => c.charCodeAt(0)).buffer);
  }
  return Object.fromEntries(entries.map(([name, inner]) => [name, decode(inner)]));
}
