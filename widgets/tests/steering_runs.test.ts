import { afterEach, describe, expect, test, vi } from "vitest";
import steering from "../src/steering_panel";
import { base, finished, gate, growing, named, plain, reply, runOf, spans, turn } from "./steering_fixtures";
import { all, HOSTILE, mount, one, press } from "./support";

describe("SteeringPanel: turns and runs", () => {
  afterEach(() => vi.restoreAllMocks());
  test("the next turn is for conversations that are finished", () => {
    const { el, model } = mount(steering, base);
    const bar = one(el, ".sk-reply");
    expect(bar.hidden).toBe(true);
    model.set("running", true);
    model.set("ran", [plain, gate]);
    model.set("exchanges", [turn()]);
    expect(bar.hidden).toBe(true);
    model.set("runs", [runOf([turn()])]);
    model.set("running", false);
    expect(bar.hidden).toBe(false);
    const message = named<HTMLInputElement>(el, "Reply to all");
    message.value = "  ";
    named(el, "Send").click();
    message.value = "And then?";
    press(message, "Enter");
    named(el, "Redo last turn").click();
    expect([model.sent, message.value]).toEqual([[{ kind: "reply", message: "And then?" }, { kind: "redo" }], ""]);
    model.set("chat", false);
    expect(bar.hidden).toBe(true);
  });
  test("a message typed while a turn is generated is kept", () => {
    const { el, model } = mount(
      steering,
      finished({ running: true, exchanges: [turn(), { user: "x", replies: [growing("a"), growing("b")] }] }),
    );
    const message = named<HTMLInputElement>(el, "Reply to all");
    message.value = "later";
    press(message, "Enter");
    expect([one(el, ".sk-reply").hidden, named(el, "Send").disabled, model.sent, message.value]).toEqual([
      false,
      true,
      [],
      "later",
    ]);
  });
  test("an earlier run is shown, then the latest again", () => {
    const old = runOf([{ user: "Old?", replies: [reply(["old"])] }], { prompt: "Old?", conditions: [plain], seed: 7 });
    const { el, model } = mount(steering, finished({ runs: [old, runOf([turn()])] }));
    const chips = all(el, ".sk-history li button");
    expect(chips.map((c) => [c.textContent, c.getAttribute("aria-pressed")])).toEqual([
      ["Old? \u00b7 1 condition \u00b7 seed 7", "false"],
      ["Hi \u00b7 2 conditions \u00b7 seed 0", "true"],
    ]);
    chips[0]?.click();
    expect([
      all(el, ".sk-reply-text").map((s) => s.textContent),
      one(el, ".sk-reply").hidden,
      chips[0]?.getAttribute("aria-pressed"),
    ]).toEqual([["old"], true, "true"]);
    expect(one(el, ".sk-note").textContent).toContain("An earlier run: Old?");
    named(el, "Back to the latest").click();
    expect([all(el, ".sk-reply-text").length, one(el, ".sk-note").hidden, document.activeElement === chips[1]]).toEqual(
      [2, true, true],
    );
    chips[0]?.click();
    model.set("running", true);
    expect(
      all(el, ".sk-history li button")
        .map((c) => [c.textContent, c.getAttribute("aria-pressed")])
        .at(-1),
    ).toEqual(["in progress", "true"]);
  });
  test("runs are saved as a file", async () => {
    const made: Blob[] = [];
    vi.spyOn(URL, "createObjectURL").mockImplementation((blob) => `blob:${made.push(blob as Blob)}`);
    const clicked: string[] = [];
    vi.spyOn(HTMLAnchorElement.prototype, "click").mockImplementation(function (this: HTMLAnchorElement) {
      clicked.push(this.download);
    });
    const { el, model } = mount(steering, finished({ live: false }));
    named(el, "Export").click();
    expect(clicked).toEqual(["steering-runs.json"]);
    expect(JSON.parse(await (made[0] as Blob).text())).toEqual(model.get("runs"));
  });
  test("a page without Python keeps the results and hides the form", () => {
    const { el, model } = mount(
      steering,
      finished({
        live: false,
        colour_by: "unlikely",
        runs: [runOf([turn()], { prompt: "old" }), runOf([turn()], { prompt: HOSTILE })],
      }),
    );
    expect([
      one(el, ".sk-form").hidden,
      one<HTMLTextAreaElement>(el, "textarea").disabled,
      one(el, ".sk-reply").hidden,
    ]).toEqual([true, true, true]);
    expect(one(el, ".sk-note").textContent).toContain(
      "The replies below were generated in a notebook, where the controls work.",
    );
    expect(one(el, ".sk-note q").textContent).toBe(HOSTILE);
    named(el, "feature").click();
    expect([model.get("colour_by"), spans(el, 0)[0]?.style.getPropertyValue("--a")]).toEqual(["feature", "1.000"]);
    const { el: empty } = mount(steering, { ...base, live: false });
    expect([one(empty, ".sk-empty").textContent, one(empty, ".sk-note").hidden]).toEqual(["Nothing was run.", true]);
  });
});
