#!/usr/bin/env perl
# An adapter (see ../../ADAPTER.md) for values and frames, with nothing but what comes with Perl 5.
# Written by somebody who read ../../../vectors/README.md and SPECIFICATION.md, sections 1 to 4, and nothing else.
use strict;
use warnings;
use Encode ();
use JSON::PP ();

my $json = JSON::PP->new->utf8->ascii->canonical;
my $MAX_UINT = 2**53 - 1;

# Dies with the answer to an input that is refused.
sub refuse {
    my ($layer, $class, %more) = @_;
    die { layer => $layer, class => $class, message => $class, %more };
}

# --- Decoders take a cursor { data, at } and move it on.

sub take {
    my ($in, $n) = @_;
    my $left = length($in->{data}) - $in->{at};
    refuse('encoding', 'out-of-bounds', offset => $in->{at}) if $n > $left;
    my $part = substr($in->{data}, $in->{at}, $n);
    $in->{at} += $n;
    return $part;
}

sub fixed_uint {
    my ($in, $size) = @_;
    my $value = unpack('Q<', take($in, $size) . "\0" x (8 - $size));
    refuse('encoding', 'unsafe-integer') if $value > $MAX_UINT;
    return $value;
}

my %WIDTH = (0xfd => 2, 0xfe => 4, 0xff => 8);

sub uint {    # ENC-1, ENC-3
    my ($in) = @_;
    my $first = ord take($in, 1);
    return $first <= 0xfc ? $first : fixed_uint($in, $WIDTH{$first});
}

sub buffer { my ($in) = @_; return take($in, uint($in)) }

sub array {    # ENC-11: the count is checked before its items are read
    my ($in, $item) = @_;
    my $count = uint($in);
    refuse('encoding', 'array-too-big') if $count > 0x100000;
    return [map { $item->($in) } 1 .. $count];
}

# One character of UTF-8, or the longest faulty part (ENC-8): Perl's own decoder would replace more at once.
my $CHARACTER = qr/[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|\xed[\x80-\x9f][\x80-\xbf]
    |[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}
    |\xf4[\x80-\x8f][\x80-\xbf]{2}/x;
my $FAULTY = qr/\xe0[\xa0-\xbf]|\xed[\x80-\x9f]|[\xe1-\xec\xee\xef][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]?
    |[\xf1-\xf3][\x80-\xbf]{1,2}|\xf4[\x80-\x8f][\x80-\xbf]?|./xs;

sub string {
    my ($in) = @_;
    my $data = buffer($in);
    my $out = '';
    while ($data =~ /\G(?:($CHARACTER+)|$FAULTY)/gc) {
        $out .= defined $1 ? Encode::decode('UTF-8', $1) : "\x{fffd}";
    }
    return $out;
}

sub words {    # ENC-12: the bytes are checked before there is a list
    my ($in) = @_;
    return [unpack 'V*', take($in, 4 * uint($in))];
}

sub hex_of { return unpack 'H*', $_[0] }

my %DECODE = (
    uint           => \&uint,
    (map { my $size = $_; ('uint' . 8 * $size => sub { fixed_uint($_[0], $size) }) } 1 .. 4, 8),
    buffer         => sub { hex_of(buffer($_[0])) },
    optionalBuffer => sub { my $data = buffer($_[0]); length $data ? hex_of($data) : undef },
    string         => \&string,
    (map { my $size = $_; ("fixed$size" => sub { hex_of(take($_[0], $size)) }) } 32, 64),
    raw            => sub { hex_of(take($_[0], length($_[0]{data}) - $_[0]{at})) },
    uint32array    => \&words,
);

# --- Encoders take a JSON value and give bytes.

sub encode_fixed {
    my ($value, $size) = @_;
    refuse('encoding', 'unsafe-integer') if $value > $MAX_UINT;
    return substr pack('Q<', $value), 0, $size;
}

sub encode_uint {
    my ($value) = @_;
    return chr $value if $value <= 0xfc;
    return "\xfd" . encode_fixed($value, 2) if $value <= 0xffff;
    return "\xfe" . encode_fixed($value, 4) if $value <= 0xffffffff;
    return "\xff" . encode_fixed($value, 8);
}

sub encode_buffer { my ($data) = @_; return encode_uint(length $data) . $data }

sub encode_exactly {
    my ($value, $size) = @_;
    my $data = pack 'H*', $value;
    refuse('encoding', 'bad-length') if length $data != $size;
    return $data;
}

my %ENCODE = (
    uint           => \&encode_uint,
    (map { my $size = $_; ('uint' . 8 * $size => sub { encode_fixed($_[0], $size) }) } 1 .. 4, 8),
    buffer         => sub { encode_buffer(pack 'H*', $_[0]) },
    optionalBuffer => sub { encode_buffer(pack 'H*', $_[0] // '') },
    string         => sub { encode_buffer(Encode::encode('UTF-8', $_[0])) },
    (map { my $size = $_; ("fixed$size" => sub { encode_exactly($_[0], $size) }) } 32, 64),
    raw            => sub { pack 'H*', $_[0] },
    uint32array    => sub { encode_uint(scalar @{ $_[0] }) . pack 'V*', @{ $_[0] } },
);

for my $item (qw(uint fixed32 buffer string)) {
    my ($decode, $encode) = ($DECODE{$item}, $ENCODE{$item});
    $DECODE{"array:$item"} = sub { array($_[0], $decode) };
    $ENCODE{"array:$item"} = sub { join '', encode_uint(scalar @{ $_[0] }), map { $encode->($_) } @{ $_[0] } };
}

# --- Frames.

sub frame_encode {
    my ($in) = @_;
    my $body = pack 'H*', $in->{body};
    refuse('frame', 'too-large') if length $body > 0xffffff;
    return { bytes => hex_of(substr(pack('V', length $body), 0, 3) . $body) };
}

sub frame_decode {
    my ($in) = @_;
    my $data = join '', map { pack 'H*', $_ } @{ $in->{chunks} };
    my ($at, @frames) = (0);
    while (length($data) - $at >= 3) {
        my $size = unpack 'V', substr($data, $at, 3) . "\0";
        last if length($data) - $at - 3 < $size;
        push @frames, hex_of(substr $data, $at + 3, $size);
        $at += 3 + $size;
    }
    my $pending = length($data) - $at;
    refuse('frame', 'truncated', frames => scalar @frames) if $in->{end} && $pending;
    return { frames => \@frames, pending => $pending };
}

my %OPS = (
    'compact.decode' => sub {
        my ($in) = @_;
        my $cursor = { data => (pack 'H*', $in->{bytes}), at => 0 };
        my $value = $DECODE{ $in->{type} }->($cursor);
        return { value => $value, consumed => $cursor->{at} };
    },
    'compact.encode' => sub { my ($in) = @_; return { bytes => hex_of($ENCODE{ $in->{type} }->($in->{value})) } },
    'frame.decode' => \&frame_decode,
    'frame.encode' => \&frame_encode,
);

$| = 1;
while (my $line = <STDIN>) {
    my $request = $json->decode($line);
    my ($op, %answer) = ($request->{op});
    if ($op eq 'hello') {
        $answer{ok} = {
            protocol => 1, name => 'perl-example', version => '1.0.0', language => 'perl',
            release => undef, ops => [sort keys %OPS], live => JSON::PP::false,
        };
    } elsif (!$OPS{$op}) {
        $answer{unsupported} = JSON::PP::true;
    } elsif (!eval { $answer{ok} = $OPS{$op}->($request->{input}); 1 }) {
        die $@ unless ref $@;    # a fault of this program
        $answer{error} = $@;
    }
    print $json->encode({ id => $request->{id}, %answer }), "\n";
}
