import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { BUSY, GONE, hidePicture, type Kernel, kernelOf, SILENCE } from "../src/shared/kernel";
import { OfflineModel } from "../src/shared/offline_model";

type Callbacks = { iopub: { status(message: unknown): void } };
interface Ping {
  kind: string;
  n: number;
}

/** A model whose kernel answers when the test says so. */
class Silent extends OfflineModel {
  sent: unknown[] = [];
  callbacks: Callbacks[] = [];
  isClosed = false;
  override send(content?: unknown, callbacks?: Callbacks): void {
    if (this.isClosed) throw new Error("Cannot send");
    this.sent.push(content);
    if (callbacks) this.callbacks.push(callbacks);
  }
  emit(event: string, ...values: unknown[]): void {
    for (const callback of [...(this.listening.get(event) ?? [])]) callback(...values);
  }
  answer(): void {
    const pings = this.sent.filter((m) => (m as Ping).kind === "ping") as Ping[];
    this.emit("msg:custom", { kind: "pong", n: pings.at(-1)?.n });
    this.idle();
  }
  idle(): void {
    this.callbacks.at(-1)?.iopub.status({ content: { execution_state: "idle" } });
  }
  get messages(): unknown[] {
    return this.sent.filter((m) => (m as Ping).kind !== "ping");
  }
  private readonly listening = new Map<string, Set<(...args: unknown[]) => void>>();
  override on(event: string, callback: (...args: unknown[]) => void): void {
    this.listening.set(event, (this.listening.get(event) ?? new Set()).add(callback));
  }
  override off(event?: string | null, callback?: ((...args: unknown[]) => void) | null): void {
    if (event && callback) this.listening.get(event)?.delete(callback);
  }
  get nListeners(): number {
    return [...this.listening.values()].reduce((n, callbacks) => n + callbacks.size, 0);
  }
}

let model: Silent;
let kernel: Kernel;
let controller: AbortController;
const said = () => (kernel.element.hidden ? "" : kernel.element.textContent);

beforeEach(() => {
  vi.useFakeTimers();
  model = new Silent({ picture_id: "abc123" });
  controller = new AbortController();
  kernel = kernelOf(model as never, controller.signal);
});
afterEach(() => {
  controller.abort();
  vi.useRealTimers();
});

describe("the kernel", () => {
  test("that answers in time is never mentioned", () => {
    kernel.ask();
    vi.advanceTimersByTime(SILENCE - 1);
    model.answer();
    vi.advanceTimersByTime(60_000);
    expect(said()).toBe("");
    expect(model.sent.length).toBe(1);
  });

  test("that is silent is said to be busy within two seconds, and no longer once it answers", () => {
    kernel.ask();
    expect(said()).toBe("");
    vi.advanceTimersByTime(2000);
    expect(said()).toBe(BUSY);
    model.answer();
    expect(said()).toBe("");
  });

  test("is asked again while it is silent, ever less often", () => {
    kernel.ask();
    vi.advanceTimersByTime(10 * 60_000);
    expect(model.sent.length).toBeGreaterThan(5);
    expect(model.sent.length).toBeLessThan(30);
    model.answer();
    const n = model.sent.length;
    vi.advanceTimersByTime(60_000);
    expect(model.sent.length).toBe(n);
  });

  test("gets one ping for many wishes, and the last of the messages that waited", () => {
    for (let i = 0; i < 200; i++) kernel.send({ kind: "run", i });
    expect(model.messages).toEqual([{ kind: "run", i: 0 }]);
    model.answer();
    expect(model.messages).toEqual([
      { kind: "run", i: 0 },
      { kind: "run", i: 199 },
    ]);
  });

  test("that is done with a ping and did not answer does not know the widget", () => {
    kernel.ask();
    model.idle();
    expect(said()).toBe(GONE);
    kernel.send({ kind: "run" });
    expect(model.messages).toEqual([]);
  });

  test("that is restarted or shut down is said to be gone, at once", () => {
    model.emit("comm_live_update");
    expect(said()).toBe(GONE);
    const other = new Silent({});
    other.isClosed = true;
    const closed = kernelOf(other as never, undefined);
    closed.send({ kind: "run" });
    expect(closed.element.textContent).toBe(GONE);
    vi.advanceTimersByTime(60_000);
    expect(closed.element.textContent).toBe(GONE);
  });

  test("is left alone once the view is closed", () => {
    kernel.ask();
    controller.abort();
    vi.advanceTimersByTime(60_000);
    expect([model.sent.length, model.nListeners]).toEqual([1, 0]);
  });

  test("of an offline page answers, so nothing waits", () => {
    const page = kernelOf(new OfflineModel({}) as never, undefined);
    page.ask();
    vi.advanceTimersByTime(60_000);
    expect(page.element.hidden).toBe(true);
  });
});

test("the picture beside a view is hidden as long as one is shown", () => {
  const rules = () => [...document.head.querySelectorAll("style")].map((s) => s.textContent).join("");
  expect(rules()).toContain('[data-saekit-picture="abc123"]');
  const show = hidePicture("abc123");
  controller.abort();
  expect(rules()).toContain("abc123");
  show();
  expect(rules()).not.toContain("abc123");
  hidePicture('x"] *, [y="');
  expect(rules()).not.toContain("[y=");
});
