// The LoRAs of the picture, in order: weights, trigger words, dragging, taking away, and where each belongs.
// value: [{name, weight, text_encoder_weight, box, ...facts of its card}]; text_encoder_weight null means "as weight".
(() => {
  const { make, tell, hear, says, insert, field } = window.medley;
  const LOW = -1;
  const HIGH = 2;
  const COLOURS = 6; // in page.css
  window.medley.colour = (place) => `var(--m-lora-${place % COLOURS})`;

  window.medley.parts.chosen = (element, props, trigger, watch) => {
    const list = make("ol", { class: "m-chosen" });
    const empty = make("p", { class: "m-note" }, "No LoRA chosen. Press a card, or start from the example.");
    element.append(empty, list);
    const opened = new Set(); // names of LoRAs whose further fields are shown

    const uses = () => props.value || [];
    const set = (next) => {
      props.value = next;
      draw();
    };
    const change = (place, fields) => {
      props.value = uses().map((use, n) => (n === place ? { ...use, ...fields } : use));
      tell("chosen", uses());
    };
    const move = (from, to) => {
      if (to < 0 || to >= uses().length || from === to) return;
      const next = [...uses()];
      next.splice(to, 0, ...next.splice(from, 1));
      set(next);
      list.children[to]?.querySelector(".m-handle")?.focus();
    };

    const slider = (use, place, key, label) => {
      const value = use[key] ?? use.weight;
      const number = make("input", { type: "number", step: 0.05, min: -100, max: 100, value, "aria-label": `${label} of ${use.name}` });
      const range = make("input", { type: "range", step: 0.05, min: LOW, max: HIGH, value, "aria-label": `${label} of ${use.name}, slider` });
      const take = (from, to) => {
        to.value = from.value;
        const given = parseFloat(from.value);
        if (Number.isFinite(given)) {
          change(place, { [key]: given });
          if (key === "weight" && uses()[place].text_encoder_weight === null) follow(place, given);
        }
      };
      range.addEventListener("input", () => (number.value = range.value));
      range.addEventListener("change", () => take(range, number));
      number.addEventListener("change", () => take(number, range));
      return make("div", { class: "m-slider", "data-key": key }, make("span", { "aria-hidden": "true" }, label), range, number);
    };
    const follow = (place, value) => {
      for (const input of list.children[place].querySelectorAll('[data-key="text_encoder_weight"] input')) input.value = value;
    };

    const words = (use) => {
      const prompt = field("prompt")?.value || "";
      const chips = use.triggers.map((word) =>
        make(
          "button",
          { type: "button", class: "m-chip", "aria-pressed": String(says(prompt, word)), title: "Put these words into the prompt", onclick: () => insert(word) },
          word
        )
      );
      return make("div", { class: "m-chips", "aria-label": `Trigger words of ${use.name}`, role: "group" }, ...chips);
    };

    const FURTHER = [
      ["blocks", "weights by block", "e.g. IN04:0.5,MID:0, a list, or a preset such as INALL"],
      ["steps", "acts in steps", "e.g. 5-20, or 0.2-0.8 of the way"],
      ["curve", "curve over the steps", "e.g. 0@0,1@0.4: WEIGHT@POSITION"],
    ];
    const further = (use, place) => {
      const title = () => {
        const some = FURTHER.filter(([key]) => uses()[place]?.[key]).length;
        return `blocks and steps${some ? ` (${some} set)` : ""}`;
      };
      const summary = make("summary", {}, title());
      const rows = FURTHER.map(([key, label, placeholder]) => {
        const input = make("input", { type: "text", value: use[key] || "", maxlength: 2000, placeholder, "aria-label": `${label} of ${use.name}`, "data-key": key });
        input.addEventListener("change", () => {
          change(place, { [key]: input.value.trim() || null });
          summary.textContent = title();
        });
        return make("div", { class: "m-pair" }, make("span", { "aria-hidden": "true" }, label), input);
      });
      const fold = make("details", { class: "m-fold", open: opened.has(use.name) }, summary, ...rows);
      fold.addEventListener("toggle", () => (fold.open ? opened.add(use.name) : opened.delete(use.name)));
      return fold;
    };

    const row = (use, place) => {
      const key = (event) => {
        if (event.key === "ArrowUp" || event.key === "ArrowDown") {
          event.preventDefault();
          move(place, place + (event.key === "ArrowUp" ? -1 : 1));
        }
      };
      const handle = make(
        "button",
        { type: "button", class: "m-handle", title: "Drag, or use the arrow keys, to change the order", "aria-label": `Move ${use.name}`, onkeydown: key },
        "⠿"
      );
      const remove = make("button", { type: "button", class: "m-remove", "aria-label": `Remove ${use.name}`, onclick: () => tell("toggle", { ...use, handle: use.name }) }, "×");
      const hint = `preferred ${use.preferred}${use.range ? `, said to work from ${use.range[0]} to ${use.range[1]}` : ""}`;
      drag(handle, place);
      return make(
        "li",
        { style: { borderLeftColor: window.medley.colour(place) } },
        make("div", { class: "m-head" }, handle, make("strong", {}, use.label || use.name), make("span", { class: "m-facts" }, hint), remove),
        slider(use, place, "weight", "weight"),
        slider(use, place, "text_encoder_weight", "in text"),
        words(use),
        further(use, place)
      );
    };

    // By its handle a LoRA is dragged to another place, with the mouse, a pen or a finger.
    const drag = (handle, place) => {
      let to = null;
      const mark = () => [...list.children].forEach((item, n) => item.classList.toggle("m-target", to !== null && n === to && n !== place));
      const end = (event) => {
        const target = to;
        to = null;
        mark();
        list.children[place]?.classList.remove("m-dragged");
        if (event.type === "pointerup" && target !== null) move(place, target);
      };
      handle.addEventListener("pointerdown", (event) => {
        handle.setPointerCapture(event.pointerId);
        to = place;
        list.children[place].classList.add("m-dragged");
      });
      handle.addEventListener("pointermove", (event) => {
        if (to === null) return;
        const middles = [...list.children].map((item) => item.getBoundingClientRect()).map((area) => (area.top + area.bottom) / 2);
        to = middles.filter((middle, n) => n !== place && middle < event.clientY).length;
        mark();
      });
      for (const kind of ["pointerup", "pointercancel"]) handle.addEventListener(kind, end);
    };

    const draw = () => {
      empty.hidden = uses().length > 0;
      list.replaceChildren(...uses().map(row));
      tell("chosen", uses());
    };

    const use = (card) => ({
      name: card.handle,
      label: card.name,
      weight: card.weight,
      text_encoder_weight: null,
      box: null,
      mask: null,
      region_prompt: null,
      blocks: null,
      steps: null,
      curve: null,
      triggers: card.triggers,
      preferred: card.weight,
      range: card.range,
    });
    hear("toggle", (card) => {
      if (uses().some((one) => one.name === card.handle)) return set(uses().filter((one) => one.name !== card.handle));
      set([...uses(), use(card)]);
      if (card.triggers.length && !card.triggers.some((word) => says(field("prompt")?.value || "", word))) insert(card.triggers[0]);
    });
    hear("prompt", (text) => {
      list.querySelectorAll(".m-chips .m-chip").forEach((chip) => chip.setAttribute("aria-pressed", String(says(text, chip.textContent))));
    });
    hear("boxes", (boxes) => set(uses().map((one, place) => ({ ...one, ...(boxes[place] ?? { box: null }) }))));
    hear("cards-ready", () => tell("chosen", uses()));
    watch("value", draw);
    draw();
  };
})();
