// Where each LoRA belongs: a frame of the picture's shape in which boxes are drawn, and the same in numbers.
// value: {shown, aspect, title}
(() => {
  const { make, tell, hear } = window.medley;
  const SIDES = ["left", "top", "right", "bottom"];

  window.medley.parts.boxes = (element, props, trigger, watch) => {
    let uses = [];
    let active = 0;
    const frame = make("div", { class: "m-frame", role: "img", "aria-label": "Boxes of the LoRAs in the picture; the numbers below say the same" });
    const rows = make("div", { class: "m-boxes" });
    const help = make("p", { class: "m-note" }, "Choose a LoRA, then draw its box with the mouse or type it in percent. Without a box it acts everywhere.");
    element.append(help, frame, rows);

    const send = () => tell("boxes", uses.map((use) => ({ box: use.box, region_prompt: use.region_prompt ?? null })));
    const put = (place, box) => {
      uses = uses.map((use, n) => (n === place ? { ...use, box } : use));
      send();
    };

    const at = (event) => {
      const area = frame.getBoundingClientRect();
      const share = (value, size) => Math.min(1, Math.max(0, Math.round((value / size) * 100) / 100));
      return [share(event.clientX - area.left, area.width), share(event.clientY - area.top, area.height)];
    };
    let from = null;
    frame.addEventListener("pointerdown", (event) => {
      if (!uses.length) return;
      from = at(event);
      frame.setPointerCapture(event.pointerId);
    });
    const box = (to) => [Math.min(from[0], to[0]), Math.min(from[1], to[1]), Math.max(from[0], to[0]), Math.max(from[1], to[1])];
    frame.addEventListener("pointermove", (event) => {
      if (!from) return;
      const now = box(at(event));
      uses = uses.map((use, n) => (n === active ? { ...use, box: now } : use));
      paint();
    });
    frame.addEventListener("pointerup", (event) => {
      if (!from) return;
      const now = box(at(event));
      from = null;
      put(active, now[2] - now[0] >= 0.05 && now[3] - now[1] >= 0.05 ? now : null);
    });

    const paint = () => {
      frame.style.aspectRatio = props.value.aspect || 1;
      frame.replaceChildren(
        ...uses.flatMap((use, place) => {
          if (!use.box) return [];
          const [left, top, right, bottom] = use.box.map((side) => `${side * 100}%`);
          const colour = window.medley.colour(place);
          const style = { left, top, width: `calc(${right} - ${left})`, height: `calc(${bottom} - ${top})`, borderColor: colour };
          return [make("div", { class: "m-box", style }, make("span", { style: { background: colour } }, use.label || use.name))];
        })
      );
    };

    const numbers = (use, place) =>
      SIDES.map((side, n) => {
        const value = use.box ? Math.round(use.box[n] * 100) : "";
        const input = make("input", { type: "number", min: 0, max: 100, value, placeholder: side, "aria-label": `${side} of ${use.name}, percent` });
        input.addEventListener("change", () => {
          const given = [...input.parentElement.querySelectorAll('input[type="number"]')].map((one) => one.value);
          if (given.every((one) => one === "")) put(place, null);
          else if (given.every((one) => one !== "")) put(place, given.map((one) => Number(one) / 100));
        });
        return input;
      });

    const draw = () => {
      element.hidden = !props.value.shown;
      if (!props.value.shown) return;
      active = Math.min(active, Math.max(0, uses.length - 1));
      rows.replaceChildren(
        ...uses.map((use, place) => {
          const pick = make("button", {
            type: "button",
            class: "m-chip",
            "aria-pressed": String(place === active),
            style: { borderColor: window.medley.colour(place) },
            onclick: () => ((active = place), draw()),
          }, use.label || use.name);
          const clear = make("button", { type: "button", class: "m-remove", "aria-label": `No box for ${use.name}`, onclick: () => put(place, null) }, "×");
          const says = make("input", { type: "text", class: "m-there", value: use.region_prompt || "", maxlength: 2000, placeholder: "what is there; empty: the prompt", "aria-label": `Prompt of the box of ${use.name}` });
          says.addEventListener("change", () => {
            uses = uses.map((one, n) => (n === place ? { ...one, region_prompt: says.value || null } : one));
            send();
          });
          return make("div", { class: "m-boxrow" }, pick, ...numbers(use, place), clear, says);
        })
      );
      paint();
    };

    hear("chosen", (next) => {
      uses = next;
      draw();
    });
    watch("value", draw);
    draw();
    tell("cards-ready");
  };
})();
