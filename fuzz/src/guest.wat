;; A decoder without any will of its own: what it was given last stands in its memory, and that is what it returns.
;;
;; A batch's data is an image, which goes to address 65,536. It begins with 16 bytes that say what to do:
;;   0  the verdict of `probe`
;;   1  bit 0: write a log line; bit 1: `describe` and `configure` answer with the image, and `feed` with nothing
;;   4  address of the answer
;;   8  address of the log line, and at 12 its length
(module
  (import "podtap:decoder/host@0.1.0" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 64)
  (data (i32.const 1024) "echo")
  (data (i32.const 1032) "1.0.0")
  (data (i32.const 1040) "a.text")
  (data (i32.const 1048) "a.uint")
  (data (i32.const 1056) "a.int")
  (data (i32.const 1064) "a.float")
  (data (i32.const 1072) "a.flag")
  ;; "echo"
  (data (i32.const 1080) "\00\04\00\00\04\00\00\00")
  ;; attributes: name, kind, doc
  (data (i32.const 1100) "\10\04\00\00\06\00\00\00" "\00\00\00\00" "\00\04\00\00\04\00\00\00")
  (data (i32.const 1120) "\18\04\00\00\06\00\00\00" "\01\00\00\00" "\00\04\00\00\04\00\00\00")
  (data (i32.const 1140) "\20\04\00\00\05\00\00\00" "\02\00\00\00" "\00\04\00\00\04\00\00\00")
  (data (i32.const 1160) "\28\04\00\00\07\00\00\00" "\03\00\00\00" "\00\04\00\00\04\00\00\00")
  (data (i32.const 1180) "\30\04\00\00\06\00\00\00" "\04\00\00\00" "\00\04\00\00\04\00\00\00")
  ;; describe: name, version, doc, protocols, ports, attributes, status
  (data (i32.const 2048) "\00\04\00\00\04\00\00\00" "\08\04\00\00\05\00\00\00" "\00\04\00\00\04\00\00\00"
    "\38\04\00\00\01\00\00\00" "\00\00\00\00\00\00\00\00" "\4c\04\00\00\05\00\00\00" "\00\00\00\00")
  (global $image i32 (i32.const 65536))
  (global $most i32 (i32.const 65536))
  (global $free (mut i32) (i32.const 131072))
  (func $is_armed (result i32)
    (i32.and (i32.load8_u offset=1 (global.get $image)) (i32.const 2)))
  (func $answer (param $else i32) (result i32)
    (select (i32.load offset=4 (global.get $image)) (local.get $else) (call $is_armed)))
  (func (export "podtap:decoder/decoder@0.1.0#describe") (result i32)
    (call $answer (i32.const 2048)))
  (func (export "podtap:decoder/decoder@0.1.0#configure") (param i32 i32) (result i32)
    (global.set $free (i32.const 131072))
    (call $answer (i32.const 3072)))
  (func (export "podtap:decoder/decoder@0.1.0#probe") (param i32 i32 i32) (result i32)
    (global.set $free (i32.const 131072))
    (if (i32.eqz (local.get 2)) (then (return (i32.const 2))))
    (i32.load8_u (local.get 1)))
  (func (export "podtap:decoder/decoder@0.1.0#feed")
    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (param $data i32) (param $length i32) (result i32)
    ;; What the batch was given is not needed any more.
    (global.set $free (i32.const 131072))
    (if (i32.gt_u (local.get $length) (global.get $most)) (then (local.set $length (global.get $most))))
    (if (i32.lt_u (local.get $length) (i32.const 16)) (then (return (i32.const 3072))))
    (memory.copy (global.get $image) (local.get $data) (local.get $length))
    (if (i32.and (i32.load8_u offset=1 (global.get $image)) (i32.const 1))
      (then
        (call $log
          (i32.load8_u offset=2 (global.get $image))
          (i32.load offset=8 (global.get $image))
          (i32.load offset=12 (global.get $image)))))
    (select (i32.const 3072) (i32.load offset=4 (global.get $image)) (call $is_armed)))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
    (global.set $free (i32.add (local.get $at) (local.get 3)))
    (local.get $at))
)
